"""torch.compile: the duality map, the step, and forward, backward and step in one graph; a changed
learning rate compiles nothing anew.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from modula import Gradient, Linear, ReLU, SteepestDescent
from tests.helpers import close, random_gradient
from tests.optim.helpers import gpt, loss_of, mlp, same
from tests.optim.test_nonfinite import RULES

RATES = (0.3, 0.2, 0.1, 0.05)
traces_autograd = pytest.mark.skipif(
    not hasattr(torch._dynamo.config, "trace_autograd_ops"),
    reason="this torch does not trace autograd.grad; see torch.func below",
)


# the schedule wraps optimizer.step after it has been compiled, and then misses its own wrapper
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()


def tokens(seed):
    x = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(seed))
    return x, x.roll(1, dims=-1)


def test_dualize_of_a_gpt_in_one_graph():
    model, counter = gpt(), CompileCounter()
    names, tensors = model.weights.names, random_gradient(model, 0).tensors

    @torch.compile(backend=counter, fullgraph=True)
    def dualize(tensors, lr):
        return model.dualize(Gradient(dict(zip(names, tensors, strict=True))), lr).tensors

    for rate in RATES:
        expected = model.dualize(Gradient(dict(zip(names, tensors, strict=True))), rate)
        for u, e in zip(dualize(tensors, torch.tensor(rate)), expected.tensors, strict=True):
            close(u, e, rtol=1e-4, atol=1e-6)
    assert counter.frame_count == 1


def test_dualize_in_one_graph_at_a_width_where_the_hardware_is_asked_for_its_formats():
    model = Linear(64, 64)
    gradient = random_gradient(model, 0)
    compiled = torch.compile(
        lambda g: model.dualize(Gradient({"weight": g})).tensors[0], backend="eager", fullgraph=True
    )
    close(compiled(gradient.tensors[0]), model.dualize(gradient).tensors[0], rtol=1e-4, atol=1e-5)


def test_a_learning_rate_as_a_number_compiles_twice_at_most():
    """Once for the first value, once for all others."""
    model, counter = Linear(3, 4) @ ReLU() @ Linear(4, 5), CompileCounter()
    names, tensors = model.weights.names, random_gradient(model, 0).tensors
    dualize = torch.compile(
        lambda t, lr: model.dualize(Gradient(dict(zip(names, t, strict=True))), lr).tensors,
        backend=counter,
    )
    for rate in RATES:
        dualize(tensors, rate)
    assert counter.frame_count <= 2


@traces_autograd
def test_forward_backward_and_step_of_a_gpt_in_one_graph():
    model, counter = gpt(), CompileCounterWithBackend("aot_eager")
    twin = copy.deepcopy(model)

    def step(model, x, y, lr):
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        model.weights -= model.dualize(model.gradient(loss), lr)
        return loss.detach()

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(step, backend=counter, fullgraph=True)
        for seed, rate in enumerate(RATES):
            close(
                compiled(model, *tokens(seed), torch.tensor(rate)),
                step(twin, *tokens(seed), rate),
                rtol=1e-4,
            )
    assert counter.frame_count == 1


def test_forward_backward_and_step_by_torch_func_in_one_graph():
    model, counter = mlp(torch.float32), CompileCounter()
    twin = copy.deepcopy(model)

    def step(model, x, lr):
        def loss_at(weights):
            return torch.func.functional_call(model, weights, (x,)).square().mean()

        grads, loss = torch.func.grad_and_value(loss_at)(
            {name: w.detach() for name, w in model.weights.items()}
        )
        model.weights -= model.dualize(Gradient(grads), lr)
        return loss

    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for seed, rate in enumerate(RATES):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
        close(compiled(model, x, torch.tensor(rate)), step(twin, x, rate), rtol=1e-4)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("rule", "nonfinite", "dtype"),
    [
        ("dualized", "propagate", torch.float32),
        ("dualized", "skip", torch.bfloat16),
        ("normalized", "skip", torch.float32),
        ("adam", "skip", torch.float32),
        ("adam", "propagate", torch.bfloat16),
        ("second moments", "skip", torch.float32),
        ("cautious", "propagate", torch.float32),
        ("steepest", "skip", torch.float32),
        ("ball", "propagate", torch.float32),
        ("sphere", "skip", torch.float32),
        ("projected", "propagate", torch.float32),
    ],
)
def test_a_compiled_step_follows_a_schedule_without_compiling_anew(rule, nonfinite, dtype):
    model, counter = mlp(dtype), CompileCounter()
    twin = copy.deepcopy(model)
    optimizer, other = (
        SteepestDescent(m, torch.tensor(0.1), weight_decay=0.1, nonfinite=nonfinite, **RULES[rule])
        for m in (model, twin)
    )
    # before the schedule, which wraps optimizer.step
    step = torch.compile(optimizer.step, backend=counter, fullgraph=True)
    schedules = [LambdaLR(o, lambda k: 1 - k / 4) for o in (optimizer, other)]
    for seed in range(3):
        for m, o, take in ((model, optimizer, step), (twin, other, other.step)):
            o.zero_grad()
            loss_of(m, seed).backward()
            take()
        for schedule in schedules:
            schedule.step()
    assert counter.frame_count == 1
    for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        close(w, e, rtol=1e-4, atol=1e-5)


@pytest.fixture
def mesh(tmp_path):
    """A mesh of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


# the cache of submeshes, which dynamo looks through
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a .functools.lru_cache.:UserWarning")
def test_a_compiled_step_of_dtensors_follows_a_schedule_without_compiling_anew(mesh):
    model, counter = mlp(torch.float32), CompileCounter()
    twin = copy.deepcopy(model)
    fully_shard(model, mesh=mesh)
    optimizer, other = (
        SteepestDescent(m, torch.tensor(0.1), weight_decay=0.1) for m in (model, twin)
    )
    step = torch.compile(optimizer.step, backend=counter, fullgraph=True)
    schedules = [LambdaLR(o, lambda k: 1 - k / 4) for o in (optimizer, other)]
    for seed in range(3):
        for m, o, take in ((model, optimizer, step), (twin, other, other.step)):
            o.zero_grad()
            loss_of(m, seed).backward()
            take()
        for schedule in schedules:
            schedule.step()
    assert counter.frame_count == 1
    for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        assert isinstance(w, DTensor)
        close(w.full_tensor(), e, rtol=1e-4, atol=1e-4)


def test_a_compiled_step_skips():
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, torch.tensor(0.1), nonfinite="skip")
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    before = model.weights.clone()
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    step()
    assert same(model.weights, before)
    assert optimizer.skipped == 1


def test_the_compiled_model_trains_through_the_optimizer_of_the_model():
    model = mlp(torch.float32)
    compiled: nn.Module = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizer = SteepestDescent(model, 0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(compiled, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
