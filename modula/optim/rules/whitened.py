"""`Whitened`: an average of gradients, divided by its root mean squares in eigenbases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from modula.checks import is_number
from modula.geometry import Geometry
from modula.optim.nonfinite import HEADROOM
from modula.optim.rules.base import Average, Buffer, State, Step, merged
from modula.optim.rules.momentum import Momentum
from modula.optim.settings import check_share
from modula.scaling import split_scale, working_dtype
from modula.vector import Gradient, Scalar

ROUNDING = 16
"""The units of the dtype's precision, relative to the largest entry, that a rotation may add."""

SETTING = "beta_whitening"
SIDES = ("left", "right")


@dataclass(frozen=True)
class Whitened(Average):
    """Whiten an average of gradients, as SOAP does: Adam in the eigenbases of Shampoo's factors.

    For each matrix of a weight it keeps L ← β·L + (1−β)·ggᵀ and R ← β·R + (1−β)·gᵀg of the step's
    gradient g, their eigenvectors Q_L and Q_R, and v, the running mean square of the entries of
    Q_Lᵀ·g·Q_R. With the average m of another rule it returns

        Q_L · ((Q_Lᵀ·m·Q_R) / (√v̂ + ε)) · Q_Rᵀ,   v̂ = v/(1 − βᵗ).

    Entries whose √v̂ is no larger than rounding errors are left out, so that directions without a
    gradient stay still. Weights that do not consist of matrices get the average as it is, and so
    does every weight in its first step: in the eigenbases of that step's own factors g is diagonal,
    and the other entries are rounding errors, which √v̂ would make as large as those on the
    diagonal. The result is an average in the dual space: `Dualized(Whitened())` whitens before the
    duality map, and the norm of its step is `lr`; `Normalized(AsDirection(Whitened()))` is SOAP's
    own direction, whose norm is made `lr`.

    Keeps two matrices of each side that is rotated and one more tensor a weight. The eigenvectors
    are found anew in each of the first `every` steps, whose factors change most, and in each
    `every`-th after that. To know which step it is, a step waits for the device.
    Works on whole weights alone: an optimizer of DTensors refuses it.

    Args:
        average: of the gradients.
        beta: β, the share of L, R and v that a step keeps, in [0, 1). In the parameter group it is
            "beta_whitening".
        every: the number of steps from one eigendecomposition to the next.
        largest: a side with more rows or columns than this is not rotated.
        eps: ε.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Dualized, Momentum, Whitened
        >>> rule = Dualized(Whitened(Momentum(0.9), every=5))
        >>> optimizer = SteepestDescent(Linear(2, 3), lr=0.1, rule=rule)
        >>> sorted(optimizer.state[optimizer.model.weights.tensors[0]])[:3]
        ['left_basis_0', 'left_factor_0', 'momentum_buffer']

    Source: *SOAP*, Vyas et al. 2024 (arXiv:2409.11321), algorithm 3, with eigendecompositions in
    place of steps of an orthogonal iteration, and factors that hold the step's own gradient.
    """

    average: Average = field(default_factory=Momentum)
    beta: float = 0.95
    every: int = 10
    largest: int = 2048
    eps: float = 1e-8

    def __post_init__(self) -> None:
        given: object = self.average
        if not isinstance(given, Average):
            raise TypeError(
                "Whitened takes an average of gradients, such as Momentum(0.9), got "
                f"{type(given).__name__}"
            )
        check_share("beta", self.beta)
        _check_count("every", self.every, 1)
        _check_count("largest", self.largest, 0)
        eps: object = self.eps
        if not is_number(eps) or not 0 <= eps < math.inf:
            raise ValueError(f"eps is a finite number of at least 0, got {eps!r}")
        self.defaults()

    @property
    def inner(self) -> Average:
        return self.average

    def factors(self, p: Tensor, geometry: Geometry) -> Mapping[str, Buffer]:
        own: dict[str, Buffer] = {}
        like = torch.empty(p.shape, dtype=working_dtype(p.dtype), device="meta")
        for k, matrices in enumerate(_matrices(geometry, like)):
            count, *lengths = matrices.shape
            own[f"second_moment_{k}"] = Buffer(tuple(matrices.shape), like.dtype)
            for side, length in zip(SIDES, lengths, strict=True):
                if length <= self.largest:
                    square = Buffer((count, length, length), like.dtype)
                    own |= {f"{side}_factor_{k}": square, f"{side}_basis_{k}": square}
        return merged(self.average.factors(p, geometry), own, type(self).__name__)

    def defaults(self) -> Mapping[str, object]:
        return merged(self.average.defaults(), {SETTING: self.beta}, type(self).__name__)

    def check_settings(self, settings: Mapping[str, object]) -> None:
        self.average.check_settings(settings)
        check_share(SETTING, settings[SETTING])

    def __call__(self, step: Step) -> Gradient:
        average = self.average(step)
        counts = [float(t) for t in torch.stack(step.buffers("step")).cpu().unbind()]
        whitened = []
        for geometry, state, g, m, count in zip(
            step.plan.geometries,
            step.states,
            step.gradient.tensors,
            average.tensors,
            counts,
            strict=True,
        ):
            pairs = zip(_matrices(geometry, g), _matrices(geometry, m), strict=True)
            parts = [
                self._whiten(step, _Factors(state, k), *pair, count).unsqueeze(0)
                for k, pair in enumerate(pairs)
            ]
            whole = geometry.from_orthogonal_parts(parts, tuple(m.shape))[0] if parts else m
            whitened.append(whole)
        return Gradient.from_tensors(average.names, whitened)

    def _whiten(self, step: Step, kept: _Factors, g: Tensor, m: Tensor, count: float) -> Tensor:
        """Take the gradient in and return the average whitened, [count, d_out, d_in] each."""
        beta = step.number(SETTING)
        g, m = g.to(kept.second_moment.dtype), m.to(kept.second_moment.dtype)
        g = _with_finite_squares(g)
        kept.gather(g, step.choose(beta, 1.0), 1 - beta)
        if count <= self.every or count % self.every == 0:
            kept.find_bases(step.choose(1.0, 0.0))
        rotated = kept.rotated(g)
        v = kept.second_moment
        v.mul_(step.choose(beta, 1.0)).add_(rotated * rotated * (1 - beta))
        if count <= 1:  # 0 where the first step is not taken
            return m
        remaining = 1 - torch.as_tensor(beta, dtype=v.dtype, device=v.device).pow(count)
        root = (v / remaining).sqrt()
        whitened = kept.rotated(m) / (root + self.eps)
        return kept.rotated_back(torch.where(root <= _rounding(root), 0, whitened))  # NaN stays


class _Factors:
    """The Kronecker factors, bases and second moments of the matrices of one shape in a weight."""

    def __init__(self, state: State, k: int) -> None:
        self.second_moment = state[f"second_moment_{k}"]
        self.factors = [state.get(f"{side}_factor_{k}") for side in SIDES]
        self.bases = [state.get(f"{side}_basis_{k}") for side in SIDES]

    def gather(self, g: Tensor, share: Scalar, new: Scalar) -> None:
        """Take a gradient into the factors."""
        for factor, rows in zip(self.factors, (g, g.mT), strict=True):
            if factor is not None:
                factor.mul_(share).add_(rows @ rows.mT * new)

    def find_bases(self, taken: Scalar) -> None:
        """Write the eigenvectors of the factors, except where something is not finite.

        Args:
            taken: 0 where the step is not taken, so that the bases stay.
        """
        for factor, basis in self._sides():
            finite = _are_finite(factor)
            is_taken = torch.as_tensor(taken, device=basis.device) > 0
            found = _eigenvectors(torch.where(finite, factor, 0))
            basis.copy_(torch.where(finite & _are_finite(found) & is_taken, found, basis))

    def rotated(self, matrices: Tensor) -> Tensor:
        """Return Q_Lᵀ·X·Q_R."""
        left, right = self.bases
        matrices = matrices if left is None else left.mT @ matrices
        return matrices if right is None else matrices @ right

    def rotated_back(self, matrices: Tensor) -> Tensor:
        """Return Q_L·X·Q_Rᵀ."""
        left, right = self.bases
        matrices = matrices if left is None else left @ matrices
        return matrices if right is None else matrices @ right.mT

    def _sides(self) -> Iterator[tuple[Tensor, Tensor]]:
        for factor, basis in zip(self.factors, self.bases, strict=True):
            if factor is not None and basis is not None:
                yield factor, basis


def _rounding(root: Tensor) -> Tensor:
    """Return the largest entry that rotations may leave by rounding: [..., 1, 1].

    Args:
        root: root mean squares of rotated matrices [..., d_out, d_in].
    """
    if not root.numel():
        return root
    return ROUNDING * torch.finfo(root.dtype).eps * root.amax(dim=(-2, -1), keepdim=True)


def _with_finite_squares(matrices: Tensor) -> Tensor:
    """Return the matrices, of which the largest are scaled so that sums of squares stay finite.

    An infinite factor would never forget.
    """
    largest_float = torch.finfo(matrices.dtype).max
    rows, columns = matrices.shape[-2:]
    limit = math.sqrt(largest_float / (HEADROOM * max(1, rows * columns)))
    size = matrices.abs().amax(dim=(-2, -1), keepdim=True) if matrices.numel() else matrices
    return matrices * (limit / size).clamp(max=1.0)


def _eigenvectors(factors: Tensor) -> Tensor:
    """The eigenvectors of positive semidefinite matrices, in columns: [count, d, d] -> the same.

    Entries below eps² of the largest, which LAPACK can fail on, are set to zero. It raises where it
    does not converge, and returns NaN for some matrices of low rank.
    """
    direction, _ = split_scale(factors, dim=(-2, -1))
    visible = F.hardshrink(direction, torch.finfo(direction.dtype).eps ** 2)
    try:
        found = _columns_of_eigh(visible)
        if found.isfinite().all():
            return found
    except RuntimeError:
        pass
    return _columns_of_eigh(visible.double()).to(factors.dtype)


def _are_finite(matrices: Tensor) -> Tensor:
    """Whether all entries of each matrix are finite: [count, d, d] -> [count, 1, 1]."""
    return matrices.isfinite().all(dim=-1).all(dim=-1)[:, None, None]


def _columns_of_eigh(matrices: Tensor) -> Tensor:
    found: tuple[Tensor, Tensor] = torch.linalg.eigh(matrices)
    return found[1]


def _matrices(geometry: Geometry, weight: Tensor) -> Sequence[Tensor]:
    """The matrices of which one weight consists, [count, d_out, d_in] each; none for others."""
    parts = geometry.orthogonal_parts(weight.unsqueeze(0))
    return [] if parts is None else [one.squeeze(0) for one in parts.matrices]


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} is at least {least}, got {value}")
