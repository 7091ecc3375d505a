"""`torch.compile` captures the duality map in one graph, for every method, with equal results."""

import pytest
import torch

from modula import GPT, MLP, Gradient, Linear, Module, ReLU
from modula.polar import InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from tests.helpers import rand, random_gradient
from tests.polar.matrices import largest

METHODS = [
    None,
    PolarExpress(accuracy="high"),
    PolarExpress(steps=6),
    NewtonSchulz(steps=3),
    InverseRoot(steps=3),
    InverseRoot(steps=3, sides="both"),
    "svd",
]


def wide_and_square() -> Module:
    return Linear(100, 40) @ ReLU() @ Linear(40, 40) @ Linear(40, 33)


def one_block() -> Module:
    return GPT(7, d_embed=32, num_heads=2, num_blocks=1)


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()


def compiled(model: Module, method):
    names = model.weights.names

    @torch.compile(fullgraph=True, backend="aot_eager")
    def dualize(tensors):
        return model.dualize(
            Gradient(dict(zip(names, tensors, strict=True))), method=method
        ).tensors

    return dualize


def compare(model: Module, method) -> None:
    gradient = random_gradient(model, 0)
    for found, plain in zip(
        compiled(model, method)(gradient.tensors),
        model.dualize(gradient, method=method).tensors,
        strict=True,
    ):
        assert largest(found - plain) <= 0.03 * largest(plain)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_dualize_is_one_graph_with_the_same_result(method):
    compare(wide_and_square(), method)


def test_dualize_of_a_gpt_is_one_graph_with_the_same_result():
    compare(one_block(), None)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_dualize_with_symbolic_sizes_has_the_same_result(method):
    model = MLP(3, 8, width=64)
    gradient = random_gradient(model, 0)
    dualize = torch.compile(
        lambda g: model.dualize(g, method=method).tensors, dynamic=True, backend="aot_eager"
    )
    for found, plain in zip(
        dualize(gradient), model.dualize(gradient, method=method).tensors, strict=True
    ):
        assert largest(found - plain) <= 0.03 * largest(plain)


def compare_with_symbolic_sizes(method) -> None:
    compiled = torch.compile(lambda G: orthogonalize(G, method), dynamic=True, backend="aot_eager")
    for shape in ((40, 60), (70, 33)):
        G = rand(0, 2, *shape).float()
        assert largest(compiled(G) - orthogonalize(G, method)) <= 0.03


@pytest.mark.parametrize(
    "method", [*METHODS, NewtonSchulz(schedule=((1.5, -0.5, 0.0),)), Sketch(rank=5)], ids=str
)
def test_orthogonalize_takes_symbolic_sizes(method):
    compare_with_symbolic_sizes(method)


@pytest.mark.parametrize("method", METHODS[:3], ids=str)
def test_so_it_does_in_16_bits(method, monkeypatch):
    monkeypatch.setattr("modula.polar.polar_express.low_precision", lambda device: torch.bfloat16)
    compare_with_symbolic_sizes(method)


def test_settings_may_be_given_in_the_compiled_function():
    G = rand(0, 40, 60)  # in float64, where no product is rounded to 16 bits
    compiled = torch.compile(
        lambda G: orthogonalize(G, steps=3, accuracy="high"), fullgraph=True, backend="aot_eager"
    )
    assert largest(compiled(G) - orthogonalize(G, steps=3, accuracy="high")) <= 1e-10


@pytest.mark.parametrize("format_of_16_bits", [torch.float16, None], ids=str)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_off_the_cpu_dualize_asks_for_no_number(method, format_of_16_bits, monkeypatch):
    """Tensors on the meta device have no numbers, so that code that reads one would fail."""
    monkeypatch.setattr(
        "modula.polar.polar_express.low_precision", lambda device: format_of_16_bits
    )
    model = wide_and_square().to("meta")
    gradient = Gradient({name: torch.empty_like(w) for name, w in model.weights.items()})
    assert all(part.is_meta for part in model.dualize(gradient, method=method).tensors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dualize_waits_for_no_gpu():
    model = wide_and_square().cuda()
    gradient = Gradient({name: w.detach().clone() for name, w in model.weights.items()})
    model.dualize(gradient)
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.dualize(gradient)
    finally:
        torch.cuda.set_sync_debug_mode("default")
