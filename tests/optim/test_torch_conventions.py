"""What people do around an optimizer of torch's works around this one."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from modula import SteepestDescent
from tests.helpers import close
from tests.optim.helpers import frozen_copy, gpt, loss_of, mlp, same, train
from tests.optim.test_nonfinite import RULES, every_rule

# Parameter groups and schedules


def test_one_group_of_all_parameters_in_order():
    model = mlp()
    (group,) = SteepestDescent(model, 0.1).param_groups
    assert list(map(id, group["params"])) == list(map(id, model.parameters()))
    assert tuple(group["param_names"]) == model.weights.names


def test_a_second_group_is_refused_with_the_reason():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    with pytest.raises(ValueError, match="one over the whole model"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1


SCHEDULES = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 - step / 10),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10),
    "warm-up and decay": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, 1.0, total_iters=2), lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[2],
    ),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.3, total_steps=10),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("tensor", [False, True])
def test_schedules_drive_the_length_of_the_step(name, tensor):
    model = mlp()
    optimizer = SteepestDescent(
        model, torch.tensor(0.2, dtype=torch.float64) if tensor else 0.2, method="svd"
    )
    schedule = SCHEDULES[name](optimizer)
    for seed in range(4):
        rate = float(schedule.get_last_lr()[0])
        before = frozen_copy(model)
        train(model, optimizer, range(seed, seed + 1))
        schedule.step()
        close(model.norm(before - model.weights), rate, rtol=1e-6)


def test_a_cycled_momentum_is_used():
    model, twin = mlp(), mlp()
    twin.weights = model.weights
    optimizer = SteepestDescent(model, 0.1, momentum=0.95)
    optimizer.param_groups[0]["momentum"] = 0.5
    train(model, optimizer, range(3))
    train(twin, SteepestDescent(twin, 0.1, momentum=0.5), range(3))
    assert same(model.weights, twin.weights)


# Gradients on their way


def test_closures_are_evaluated_with_gradients_on():
    model, twin = mlp(), mlp()
    twin.weights = model.weights
    optimizer = SteepestDescent(model, 0.1)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    assert optimizer.step(closure) == loss_of(twin, 0)
    train(twin, SteepestDescent(twin, 0.1), range(1))
    assert same(model.weights, twin.weights)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    loss_of(model, 0).backward()
    optimizer.zero_grad(set_to_none)
    assert all(p.grad is None if set_to_none else not p.grad.any() for p in model.parameters())


def test_accumulated_gradients_are_those_of_the_whole_batch():
    model, twin = mlp(), mlp()
    twin.weights = model.weights
    optimizer, other = SteepestDescent(model, 0.1), SteepestDescent(twin, 0.1)
    for seed in range(4):
        (loss_of(model, seed) / 4).backward()
    optimizer.step()
    (sum(loss_of(twin, seed) for seed in range(4)) / 4).backward()
    other.step()
    for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        close(w, e)


def test_clipping_limits_what_one_batch_counts_in_the_average():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    loss_of(model, 0).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    size = (
        torch.stack(
            [optimizer.state[p]["momentum_buffer"].square().sum() for p in model.parameters()]
        )
        .sum()
        .sqrt()
    )
    close(size, 1e-3, rtol=1e-3)


@pytest.mark.parametrize("unscale_first", [False, True])
def test_grad_scaler_steps_as_without_it(unscale_first):
    model, twin = mlp(torch.float32), mlp(torch.float32)
    twin.weights = model.weights
    optimizer, scaler = SteepestDescent(model, 0.1), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, seed)).backward()
        if unscale_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    train(twin, SteepestDescent(twin, 0.1), range(3))
    for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        close(w, e, rtol=1e-4, atol=1e-5)


def test_grad_scaler_leaves_out_an_overflow_and_halves_its_scale():
    model = mlp(torch.float32)
    optimizer, scaler = (
        SteepestDescent(model, 0.1, weight_decay=0.1),
        torch.amp.GradScaler("cpu", init_scale=1024.0),
    )
    before = frozen_copy(model)
    scaler.scale(loss_of(model, 0)).backward()
    next(model.parameters()).grad[0, 0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert same(model.weights, before)
    assert scaler.get_scale() == 512


def test_step_hooks_run_around_the_step():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(frozen_copy(model)))
    optimizer.register_step_post_hook(lambda *_: seen.append(frozen_copy(model)))
    before = frozen_copy(model)
    train(model, optimizer, range(1))
    assert same(seen[0], before)
    assert same(seen[1], model.weights)


def test_an_averaged_model_follows():
    model = mlp()
    optimizer, average = SteepestDescent(model, 0.1), AveragedModel(model)
    for seed in range(2):
        train(model, optimizer, range(seed, seed + 1))
        average.update_parameters(model)
    assert not same(average.module.weights, model.weights)


# State


def saved(optimizer):
    """The state after a trip through a file, read with weights_only=True."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_rule
def test_a_restored_run_goes_on_bit_for_bit(rule):
    model, twin = mlp(torch.float32), mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1, nonfinite="skip", **RULES[rule])
    train(model, optimizer, range(3))
    other = SteepestDescent(twin, 9.0, nonfinite="skip", **RULES[rule])
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(saved(optimizer))
    train(model, optimizer, range(3, 6))
    train(twin, other, range(3, 6))
    assert same(model.weights, twin.weights)


def test_loading_takes_over_the_settings_and_the_counts():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, momentum=0.5, weight_decay=0.2, nonfinite="skip")
    loss_of(model, 0).backward()
    next(model.parameters()).grad.fill_(float("nan"))
    optimizer.step()
    other = SteepestDescent(mlp(), 1.0, nonfinite="skip")
    other.load_state_dict(saved(optimizer))
    group = other.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], int(other.skipped)) == (
        0.1,
        0.5,
        0.2,
        1,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loading_across_dtypes(dtype):
    optimizer = SteepestDescent(mlp(dtype), 0.1)
    train(optimizer.model, optimizer, range(2))
    other_dtype = torch.float64 if dtype == torch.float32 else torch.float32
    other = SteepestDescent(mlp(other_dtype), 0.1)
    other.load_state_dict(saved(optimizer))
    for p, q in zip(optimizer.model.parameters(), other.model.parameters(), strict=True):
        assert other.state[q]["momentum_buffer"].dtype == other_dtype
        close(other.state[q]["momentum_buffer"], optimizer.state[p]["momentum_buffer"], rtol=1e-6)


def test_loading_across_devices():
    optimizer = SteepestDescent(mlp(), 0.1, nonfinite="skip")
    other = SteepestDescent(mlp().to("meta"), 0.1, nonfinite="skip")
    other.load_state_dict(saved(optimizer))
    assert all(state["momentum_buffer"].is_meta for state in other.state.values())
    assert other.skipped.is_meta


def test_loading_what_was_saved_before_any_state_existed():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    state = optimizer.state_dict()
    optimizer.load_state_dict({**state, "state": {}})
    train(model, optimizer, range(1))
    assert len(optimizer.state) == len(list(model.parameters()))


def test_state_dict_hooks_run():
    optimizer = SteepestDescent(mlp(), 0.1)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: seen.append("saved"))
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append("loading"))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["saving", "saved", "loading", "loaded"]


def test_a_load_hook_may_mend_the_state_before_it_is_judged():
    optimizer = SteepestDescent(mlp(), 0.1)
    state = optimizer.state_dict()
    optimizer.register_load_state_dict_pre_hook(lambda o, _: state)
    optimizer.load_state_dict({"state": {}, "param_groups": []})
    (mended,) = optimizer.param_groups
    assert {key: mended[key] for key in state["param_groups"][0] if key != "params"} == {
        key: value for key, value in state["param_groups"][0].items() if key != "params"
    }


FOREIGN = {
    "another model's": (lambda: SteepestDescent(gpt(), 0.1).state_dict(), "of another model"),
    "torch's Adam": (lambda: adams_state(), "momentum_buffer"),
    "Adam's base": (
        lambda: SteepestDescent(mlp(), 0.1, normalize=True, base="adam").state_dict(),
        "another base",
    ),
    "two groups": (lambda: two_groups(), "has 2"),
    "a model's": (lambda: mlp().state_dict(), '"state" and "param_groups"'),
    "other shapes": (lambda: reshaped(), r"\[9, 9\] in the saved state and its parameter is"),
    "other names": (
        lambda: renamed(),
        "parameter 1 is 'elsewhere' in the saved state and '1.weight' here",
    ),
    "numbers": (lambda: numbers(), "the saved state has float"),
}


def trained(model):
    loss_of(model, 0).backward()
    return model


def adams_state():
    adam = torch.optim.Adam(trained(mlp()).parameters())
    adam.step()
    return adam.state_dict()


def two_groups():
    first, *rest = mlp().parameters()
    return torch.optim.SGD([{"params": [first]}, {"params": rest}], 0.1).state_dict()


def reshaped():
    state = SteepestDescent(mlp(), 0.1).state_dict()
    state["state"][2]["momentum_buffer"] = torch.zeros(9, 9)
    return state


def renamed():
    state = SteepestDescent(mlp(), 0.1).state_dict()
    state["param_groups"][0]["param_names"] = ["0.weight", "elsewhere", "2.weight"]
    return state


def numbers():
    state = SteepestDescent(mlp(), 0.1).state_dict()
    state["state"][0]["momentum_buffer"] = 0.5
    return state


@pytest.mark.parametrize("source", list(FOREIGN))
def test_a_foreign_state_is_refused_before_anything_changes(source):
    make, message = FOREIGN[source]
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(1))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(make())
    now = optimizer.state_dict()
    assert str(now["param_groups"]) == str(before["param_groups"])
    assert all(
        torch.equal(now["state"][i][k], v)
        for i, state in before["state"].items()
        for k, v in state.items()
    )


def test_settings_that_an_older_state_lacks_are_the_defaults():
    optimizer = SteepestDescent(mlp(), 0.1, weight_decay=0.3)
    state = optimizer.state_dict()
    del state["param_groups"][0]["weight_decay"]
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


# Copies


@every_rule
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_of_model_and_optimizer_trains_alike_and_apart(rule, duplicate):
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1, **RULES[rule])
    train(model, optimizer, range(2))
    twin, other = duplicate((model, optimizer))
    assert other.model is twin
    before = frozen_copy(model)
    train(twin, other, range(2, 4))
    assert same(model.weights, before)
    train(model, optimizer, range(2, 4))
    assert same(model.weights, twin.weights)


# Distributed checkpoints of one process


@pytest.mark.parametrize("flat", [False, True])
@every_rule
def test_the_checkpoint_helpers_of_torch_distributed(rule, flat):
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, twin = mlp(torch.float32), mlp(torch.float32)
    optimizer, other = (
        SteepestDescent(m, 0.1, nonfinite="skip", **RULES[rule]) for m in (model, twin)
    )
    train(model, optimizer, range(2))
    twin.load_state_dict(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    set_optimizer_state_dict(twin, other, state, options=options)
    train(model, optimizer, range(2, 4))
    train(twin, other, range(2, 4))
    assert same(model.weights, twin.weights)
