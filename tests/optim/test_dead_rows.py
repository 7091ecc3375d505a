"""What the step's gradient does not touch comes to rest, however long its average goes on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import L1, RMS, Atom, Embed, Gradient, Linear, Linf, SteepestDescent
from modula.geometry import Flattened, Intersection, Spectral, Stacked, Taps, Transposed, Vectors
from modula.geometry.parts import REST, largest_touched
from modula.optim import Adam, AsDirection, Dualized, Momentum, Normalized
from tests.helpers import close

MATRIX = Spectral(RMS, RMS)
PARTS = {
    "rows of a table": (Vectors(RMS), (6, 4), (slice(1, 2),)),
    "columns, from L1": (Vectors(RMS, axis=-2), (4, 6), (slice(None), slice(1, 2))),
    "rows, to Linf": (Vectors(L1), (6, 4), (slice(1, 2),)),
    "entries of a gain": (Vectors(Linf, axes=1), (6,), (slice(1, 2),)),
    "experts": (Stacked(MATRIX, None), (3, 4, 4), (slice(1, 2),)),
    "experts of rows": (Stacked(Vectors(RMS), 3), (6, 4), (slice(1, 2),)),
    "fused projections": (Stacked(MATRIX, 3), (12, 4), (slice(4, 8),)),
    "taps": (Taps(pixel_axes=1), (4, 4, 3), (slice(None), slice(None), slice(1, 2))),
    "experts, transposed": (Stacked(Transposed(MATRIX), None), (3, 4, 2), (slice(1, 2),)),
    "a transposed table": (Transposed(Vectors(RMS)), (4, 6), (slice(None), slice(1, 2))),
    "a flattened table": (Flattened(Vectors(RMS), 1, 2), (6, 2, 2), (slice(1, 2),)),
    "a tied table": (Intersection(MATRIX, Vectors(RMS)), (6, 4), (slice(1, 2),)),
}
every_geometry = pytest.mark.parametrize("name", PARTS)


class Weight(Atom[RMS, RMS]):
    """A weight of any geometry, which no input meets."""

    def __init__(self, geometry, shape):
        super().__init__(shape, geometry, fan_out=4, fan_in=4)

    def forward(self, x):
        return x


def made(name):
    geometry, shape, part = PARTS[name]
    torch.manual_seed(0)
    return Weight(geometry, shape).double(), part


def moved(optimizer, gradients):
    """Step down each gradient; return what the last step changed."""
    weight = optimizer.model.weight
    before = weight
    for gradient in gradients:
        weight.grad = gradient.clone()
        before = weight.detach().clone()
        optimizer.step()
    return (weight.detach() - before).abs()


@every_geometry
def test_a_part_that_is_touched_once_comes_to_rest_and_the_others_move_on(name):
    model, part = made(name)
    once = torch.randn_like(model.weight)
    after = once.clone()
    after[part] = 0
    last = moved(SteepestDescent(model, 1e-3, method="svd"), [once] + [after] * 200)
    full = moved(SteepestDescent(model, 1e-3, method="svd"), [once])
    assert last[part].max() < 0.01 * full[part].max()
    rest = last.clone()
    rest[part] = 0
    assert rest.max() > 0.5 * full.max()


@every_geometry
def test_where_everything_is_touched_the_step_is_the_dual_of_the_average(name):
    model, _ = made(name)
    average, step = (Gradient({"weight": torch.randn_like(model.weight)}) for _ in range(2))
    plain = model.dualize(average, method="svd")
    close(model.dualize(average, method="svd", support=step).tensors[0], plain.tensors[0])


@every_geometry
def test_a_weight_that_a_step_does_not_touch_is_left_alone(name):
    model, _ = made(name)
    gradient = torch.randn_like(model.weight)
    assert not moved(SteepestDescent(model, 0.1), [gradient, torch.zeros_like(gradient)]).any()


@pytest.mark.parametrize(
    "rule",
    [
        Dualized(),
        Dualized(Momentum(0.9, nesterov=False)),
        Normalized(Adam()),
        Normalized(AsDirection(Momentum())),
    ],
    ids=lambda rule: rule.kind,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_every_rule(rule, dtype):
    model = Embed(6, 4).to(dtype)
    optimizer = SteepestDescent(model, 1e-2, rule=rule)
    once = torch.randn_like(model.weight)
    after = once.clone()
    after[1] = 0
    moved(optimizer, [once] + [after] * 150)
    kept = optimizer.state[model.weight].get("master_weight", model.weight).detach().clone()
    moved(optimizer, [after])
    now = optimizer.state[model.weight].get("master_weight", model.weight).detach()
    assert (now - kept)[1].abs().max() < 0.05 * (now - kept).abs().max()


@given(seed=st.integers(0, 1000), age=st.integers(1, 200))
def test_the_length_of_a_row_at_rest_is_its_share_of_the_largest(seed, age):
    """By the formula of the documentation, in a plain loop."""
    torch.manual_seed(seed)
    model = Embed(5, 3).double()
    grad = torch.randn(3, 5, dtype=torch.float64)
    average = grad.clone()
    grad[1] = 0
    average[1] *= 0.95**age
    update = model.dualize(Gradient({"weight": average}), support=Gradient({"weight": grad}))
    size = average.abs().amax(dim=1)
    share = min(1.0, (size[1] / (REST * torch.maximum(size[0], size[2]))).item())
    lengths = update.tensors[0].square().mean(dim=1).sqrt()
    close(lengths, torch.tensor([1.0, share, 1.0], dtype=torch.float64), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e30])
def test_at_every_scale(scale):
    model = Embed(4, 3)
    average = torch.ones(3, 4) * torch.tensor([[1.0], [0.05], [1.0]]) * scale
    grad = average.clone()
    grad[1] = 0
    update = model.dualize(Gradient({"weight": average}), support=Gradient({"weight": grad}))
    lengths = update.tensors[0].square().mean(dim=1).sqrt()
    close(lengths, [1.0, 0.5, 1.0], rtol=1e-3)


def test_a_nan_stays_in_its_row():
    model = Embed(4, 3)
    average = torch.ones(3, 4)
    average[1, 2] = torch.nan
    support = Gradient({"weight": torch.ones(3, 4)})
    update = model.dualize(Gradient({"weight": average}), support=support).tensors[0]
    assert update[1].isnan().any()
    assert update[[0, 2]].isfinite().all()


def test_a_process_without_a_row_adds_nothing_to_the_largest():
    no_rows = torch.zeros(2, 0, 3)
    assert torch.equal(largest_touched(no_rows, no_rows != 0), torch.zeros(2))


def test_a_support_of_another_kind_or_model_is_refused():
    model = Linear(2, 2)
    grad = Gradient({"weight": torch.ones(2, 2)})
    with pytest.raises(TypeError, match="as support the Gradient of one step; got Update"):
        model.dualize(grad, support=model.dualize(grad))
    with pytest.raises(ValueError, match=r"shape \[3, 2\]"):
        model.dualize(grad, support=Gradient({"weight": torch.ones(3, 2)}))
