"""Every method gives the same numbers in whatever mode of torch the caller's code runs."""

import pytest
import torch

from modula.polar import SVD, InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from tests.helpers import rand
from tests.polar.matrices import largest
from tests.test_modes import MODES

METHODS = [
    PolarExpress(),
    PolarExpress(steps=6),
    PolarExpress(accuracy="high"),
    NewtonSchulz(),
    NewtonSchulz(degree=3),
    InverseRoot(),
    InverseRoot(sides="both"),
    Sketch(),
    Sketch(tolerance=0.3),
    SVD(),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=str)


@every_method
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_mode_changes_no_bit(method, mode, dtype):
    matrices = [rand(0, 2, 40, 64).to(dtype), rand(1, 5, 3).to(dtype)]
    outside = [orthogonalize(G, method) for G in matrices]
    with mode():
        inside = [orthogonalize(G, method) for G in matrices]
    assert all(map(torch.equal, inside, outside))


@every_method
def test_the_number_of_threads_changes_rounding_alone(method):
    G = rand(0, 2, 40, 64).float()
    before, threads = orthogonalize(G, method), torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert largest(orthogonalize(G, method).double() - before.double()) <= 1e-3
    finally:
        torch.set_num_threads(threads)
