"""The laws of methods of orthogonalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from modula.polar import Matrices, Method, MethodLike, orthogonalize
from modula.testing.laws import LOOSE, ROUNDING, on_cpu, require, seeded, shown
from modula.testing.unit_ball import without


@on_cpu
def check_method(
    method: MethodLike,
    *,
    tolerance: float = 1e-3,
    shapes: Sequence[tuple[int, int]] = ((1, 1), (3, 3), (4, 7), (9, 2), (33, 40)),
    generator: torch.Generator | None = None,
) -> float:
    """Check that a method of orthogonalisation computes UVᵀ from G = UΣVᵀ.

    Args:
        method: the method, or its name.
        tolerance: the largest ‖O − UVᵀ‖ in the spectral norm that is allowed for matrices in
            float32 whose singular values fall from 1 to 0.1.
        shapes: of the matrices to check it on.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        The largest ‖O − UVᵀ‖ that was found.

    Raises:
        AssertionError: names the law that fails, with the numbers and the tolerance.

    Example:
        >>> from modula.testing import check_method
        >>> check_method("svd") < 1e-4
        True
    """
    rng = seeded(generator)
    worst = 0.0
    for shape in shapes:
        G = _conditioned(shape, 0.1, rng)
        _keeps_its_input_and_dtype(method, G)
        worst = max(worst, _is_the_orthogonal_factor(method, G, tolerance))
        _ignores_scale(method, G, tolerance)
        _keeps_zero_matrices(method, G)
        _marks_broken_matrices_alone(method, G, tolerance)
        _commutes_with_transposition(method, G, tolerance)
        _treats_matrices_alone(method, G, tolerance)
        _lifts_nothing_beyond_one(method, _conditioned(shape, 1e-8, rng), tolerance)
        if isinstance(method, Method):
            _takes_padding_if_it_says_so(method, G, tolerance)
    return worst


def _conditioned(shape: tuple[int, int], smallest: float, rng: torch.Generator) -> Tensor:
    """Matrices in float32 with singular values that fall from 1 to `smallest`."""
    rank = min(shape)
    values = smallest ** torch.linspace(0, 1, rank, dtype=torch.float64)
    U, V = (
        torch.linalg.qr(torch.randn(4, d, rank, generator=rng, dtype=torch.float64)).Q
        for d in shape
    )
    matrices: Tensor = (U * values) @ V.mT
    return matrices.float()


def _largest_error(got: Tensor, expected: Tensor) -> float:
    """The largest singular value of a difference; infinite if it is not finite."""
    error = got.double() - expected.double()
    if not bool(error.isfinite().all()):
        return math.inf
    return float(torch.linalg.matrix_norm(error, ord=2).amax())


def _require_near(
    method: MethodLike, law: str, got: Tensor, expected: Tensor, tolerance: float
) -> float:
    error = _largest_error(got, expected)
    shape = list(expected.shape[-2:])
    numbers = f"off by {error:.3g} in the spectral norm at shape {shape}, tolerance {tolerance:g}"
    require(error <= tolerance, method, law, numbers)
    return error


def _is_the_orthogonal_factor(method: MethodLike, G: Tensor, tolerance: float) -> float:
    U, _, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    law = "the result is UVᵀ for singular values between 0.1 and 1"
    return _require_near(method, law, orthogonalize(G, method), U @ Vh, tolerance)


def _ignores_scale(method: MethodLike, G: Tensor, tolerance: float) -> None:
    expected = orthogonalize(G, method)
    for c in (1e-30, 1e30):
        law = f"the result for c·G is that for G at c = {c:g}"
        _require_near(method, law, orthogonalize(c * G, method), expected, 2 * tolerance)


def _keeps_zero_matrices(method: MethodLike, G: Tensor) -> None:
    mixed = torch.cat([torch.zeros_like(G[:1]), G])
    found = orthogonalize(mixed, method)[0]
    law = "a matrix of zeros stays zero"
    require(not bool(found.any()), method, law, f"got {shown(found)}")


def _marks_broken_matrices_alone(method: MethodLike, G: Tensor, tolerance: float) -> None:
    expected = orthogonalize(G, method)
    for value in (torch.nan, torch.inf):
        broken = G.clone()
        broken[1, 0, 0] = value
        law = f"a matrix with an entry {value} becomes NaN, and no other matrix changes"
        try:
            found = orthogonalize(broken, method)
        except Exception as error:
            raise AssertionError(f"{method}: {law}: it raised {error!r}") from error
        require(bool(found[1].isnan().all()), method, law, f"got {shown(found[1])}")
        _require_near(method, law, without(found, 1), without(expected, 1), 2 * tolerance)


def _commutes_with_transposition(method: MethodLike, G: Tensor, tolerance: float) -> None:
    law = "the result for Gᵀ is the transpose of that for G"
    found = orthogonalize(G.mT.contiguous(), method).mT
    _require_near(method, law, found, orthogonalize(G, method), 2 * tolerance)


def _treats_matrices_alone(method: MethodLike, G: Tensor, tolerance: float) -> None:
    alone = torch.stack([orthogonalize(matrix, method) for matrix in G])
    law = "the result for a batch is that for its matrices"
    _require_near(method, law, orthogonalize(G, method), alone, 2 * tolerance)


def _keeps_its_input_and_dtype(method: MethodLike, G: Tensor) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        given = G.to(dtype)
        before = given.clone()
        found = orthogonalize(given, method)
        law = "orthogonalize keeps its caller's matrices"
        require(torch.equal(given, before), method, law, f"those of {dtype} were overwritten")
        kept = found.dtype == dtype and found.shape == G.shape
        got = f"got {found.dtype} of shape {list(found.shape)} for {dtype} of {list(G.shape)}"
        require(kept, method, "the result has the dtype and the shape of the matrices", got)


def _lifts_nothing_beyond_one(method: MethodLike, G: Tensor, tolerance: float) -> None:
    found = orthogonalize(G, method)
    law = "no singular value is lifted beyond 1, whatever the condition of the matrix"
    lifted = math.inf
    if bool(found.isfinite().all()):
        lifted = float(torch.linalg.matrix_norm(found.double(), ord=2).amax())
    allowed = 1 + max(tolerance, LOOSE)
    require(lifted <= allowed, method, law, f"got {lifted:.4g}, at most {allowed:g} is allowed")


def _takes_padding_if_it_says_so(method: Method, G: Tensor, tolerance: float) -> None:
    if not method.takes_padding:
        return
    wide = G if G.shape[1] <= G.shape[2] else G.mT
    rows, columns = wide.shape[1:]
    padded = torch.cat(list(method.on_batch(Matrices([wide], rows + 2, columns + 3))))
    expected = torch.zeros_like(padded)
    expected[:, :rows, :columns] = torch.cat(list(method.on_batch(Matrices([wide], rows, columns))))
    law = "takes_padding: rows and columns of zeros stay zero and change nothing else"
    _require_near(method, law, padded, expected, 2 * max(tolerance, ROUNDING[torch.float32]))
