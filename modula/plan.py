"""The plan: every atom of a model with its coefficient, grouped so that what can be done in one
batch is.

Unrolling the recursion over the module tree (Large et al. 2024, arXiv:2405.14813, section 3;
Bernstein & Newhouse 2025, arXiv:2410.21265, section 3) leaves one number an atom, its coefficient,
and with it

    ‖w‖ = max_i ‖w_i‖_i / coefficient_i
    ‖g‖† = Σ_i coefficient_i · ‖g_i‖_i†
    dualize(g)_i = coefficient_i · D_i(g_i)

The module tree makes the plan; this file knows weights and geometries only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from modula.geometry import Geometry, Orthogonal, Vectors
from modula.polar import MethodLike
from modula.polar.batching import orthogonalize_all
from modula.scaling import working_dtype
from modula.sharding import BatchMap, Sharding, held
from modula.vector import Gradient, LayoutError, Scalar, Update, Vector
from modula.workspace import entries_at_once, matrices_at_once


class Batch(NamedTuple):
    """Tensors of one geometry, shape, dtype, device and sharding; `members` are their positions in
    parameter order.

    Where a sharding is given, `tensors` holds this process's parts, and so do results of `map`.
    """

    geometry: Geometry
    members: list[int]
    tensors: list[Tensor]
    sharding: Sharding | None

    def map(self, f: BatchMap) -> Tensor:
        """f on whole weights: [batch, *shape] -> [batch, *shape]."""
        return (
            f(self.stacked())
            if self.sharding is None
            else self.sharding.map(f, self.stacked(), self._vectors())
        )

    def measure(self, f: BatchMap, combine: BatchMap) -> Tensor:
        """f on whole weights: [batch, *shape] -> [batch]. `combine` makes one norm of the norms of
        pieces, [piece, batch] -> [batch].
        """
        return (
            f(self.stacked())
            if self.sharding is None
            else self.sharding.measure(f, self.stacked(), self._vectors(), combine)
        )

    def unstack(self, results: Tensor) -> list[Tensor]:
        """One tensor for each member, from the results of `map`."""
        return (
            list(results.unbind())
            if self.sharding is None
            else [self.sharding.place(result) for result in results.unbind()]
        )

    @property
    def is_full(self) -> bool:
        """Whether no more weights of this shape would be dualized at once."""
        return len(self.members) >= matrices_at_once(
            self.tensors[0].numel(), self.tensors[0].device
        )

    def stacked(self) -> Tensor:
        """All tensors in one: [batch, *shape]."""
        return self.tensors[0].unsqueeze(0) if len(self.tensors) == 1 else torch.stack(self.tensors)

    def _vectors(self) -> int | None:
        return self.geometry.axis if isinstance(self.geometry, Vectors) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """The atoms of a model, and the duality computed over them in batches. All lists are in
    parameter order.

    Args:
        names: of the atoms' parameters.
        weights: the atoms' parameters, for their shapes.
        geometries: the norms on their weights.
        shares: m_i/m, the atoms' masses over the total.
        coefficients: (m_i/m)/S_i.
        owner: writes the model for error messages.
    """

    names: list[str]
    weights: Sequence[Tensor]
    geometries: list[Geometry]
    shares: list[float]
    coefficients: list[float]
    owner: Callable[[], str]

    def only(self, chosen: Sequence[int]) -> Plan:
        """The atoms at the `chosen` positions alone, each with the coefficient that it has among
        all.
        """
        return Plan(
            names=[self.names[i] for i in chosen],
            weights=[self.weights[i] for i in chosen],
            geometries=[self.geometries[i] for i in chosen],
            shares=[self.shares[i] for i in chosen],
            coefficients=[self.coefficients[i] for i in chosen],
            owner=self.owner,
        )

    def dualize(self, gradient: Gradient, target_norm: Scalar, method: MethodLike | None) -> Update:
        """dualize(g)_i = target_norm · coefficient_i · D_i(g_i). What is not trained
        (coefficient 0) is zero, whatever its gradient.
        """
        self._check(gradient, "dualize")
        trained = [i for i, coefficient in enumerate(self.coefficients) if coefficient > 0]
        parts: dict[int, Tensor] = {}
        for batch, duals in self._duals(
            self._batches(gradient.tensors, trained), target_norm, method
        ):
            parts.update(
                zip(batch.members, batch.unstack(duals.to(batch.tensors[0].dtype)), strict=True)
            )
        return Update._of(
            gradient.names,
            [
                parts[i] if i in parts else torch.zeros_like(g)
                for i, g in enumerate(gradient.tensors)
            ],
        )

    def norm(self, update: Update) -> Tensor:
        """max_i ‖u_i‖_i / coefficient_i, where a part that is zero counts as zero whatever its
        coefficient.
        """
        self._check(update, "norm")
        norms = self._norms(update)
        ratios = torch.where(norms == 0, norms, norms / self._coefficients(norms))
        return ratios.amax() if self.names else ratios.sum()

    def dual_norm(self, gradient: Gradient) -> Tensor:
        """Σ_i coefficient_i · ‖g_i‖_i†, where an atom that is not trained adds nothing."""
        self._check(gradient, "dual_norm")
        norms = self._in_order(
            [
                (batch.members, batch.measure(batch.geometry.dual_norm, _sum))
                for batch in self._batches(gradient.tensors)
            ]
        )
        coefficients = self._coefficients(norms)
        return torch.where(coefficients == 0, 0, coefficients * norms).sum()

    def normalize(self, update: Update, target_norm: Scalar) -> Update:
        """Every atom's part at its full share, ‖u_i‖_i = target_norm · coefficient_i, in its own
        direction; zero stays zero.
        """
        self._check(update, "normalize")
        norms = self._norms(update)
        factors = (
            target_norm * self._coefficients(norms) / torch.where(norms == 0, 1, norms)
        ).unbind()
        parts = [
            (t * factor.to(t.device)).to(t.dtype) if coefficient else torch.zeros_like(t)
            for t, factor, coefficient in zip(
                update.tensors, factors, self.coefficients, strict=True
            )
        ]
        return Update._of(update.names, parts)

    def project(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Each weight's point in its natural constraint set."""
        parts: dict[int, Tensor] = {}
        for batch in self._batches(weights):
            parts.update(
                zip(batch.members, batch.unstack(batch.map(batch.geometry.project)), strict=True)
            )
        return [parts[i] for i in range(len(weights))]

    def _duals(
        self, batches: Iterable[Batch], target_norm: Scalar, method: MethodLike | None
    ) -> Iterator[tuple[Batch, Tensor]]:
        """target_norm · coefficient_i · D_i(g_i) for each batch. What has to be orthogonalised and
        fills no batch is so together.
        """
        waiting: list[Batch] = []
        for batch in batches:
            if batch.sharding is not None or not isinstance(batch.geometry, Orthogonal):
                duals = batch.map(partial(batch.geometry.dualize, method=method))
                yield batch, duals * self._column(batch, 1.0, duals) * target_norm
            elif batch.is_full:
                yield from self._orthogonalized([batch], target_norm, method)
            else:
                waiting.append(batch)
        yield from self._orthogonalized(waiting, target_norm, method)

    def _orthogonalized(
        self, batches: Sequence[Batch], target_norm: Scalar, method: MethodLike | None
    ) -> Iterator[tuple[Batch, Tensor]]:
        """The same for weights made of matrices, all of which are orthogonalised together."""
        geometries = [cast("Orthogonal", batch.geometry) for batch in batches]
        matrices = [
            geometry.matrices(batch.stacked()).flatten(0, 1)
            for geometry, batch in zip(geometries, batches, strict=True)
        ]
        factors = orthogonalize_all(matrices, method)
        for batch, geometry, found in zip(batches, geometries, factors, strict=True):
            shape = tuple(batch.tensors[0].shape)
            duals = geometry.from_matrices(
                found.view(len(batch.tensors), -1, *found.shape[1:]), shape
            )
            yield (
                batch,
                duals.mul_(self._column(batch, geometry.radius(shape), duals) * target_norm),
            )

    def _column(self, batch: Batch, unit: float, like: Tensor) -> Tensor:
        """unit · coefficient_i for each member of the batch, shaped to multiply `like`."""
        numbers = [unit * self.coefficients[i] for i in batch.members]
        return _numbers(numbers, working_dtype(like.dtype), like.device).view(
            -1, *[1] * (like.dim() - 1)
        )

    def _norms(self, update: Update) -> Tensor:
        """‖u_i‖_i for every atom, in parameter order."""
        return self._in_order(
            [
                (batch.members, batch.measure(batch.geometry.norm, _max))
                for batch in self._batches(update.tensors)
            ]
        )

    def _coefficients(self, like: Tensor) -> Tensor:
        return _numbers(self.coefficients, like.dtype, like.device)

    def _batches(
        self, tensors: Sequence[Tensor], chosen: Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """The tensors at the `chosen` positions (all of them by default), by geometry, shape,
        dtype, device and sharding.
        """
        groups: dict[
            tuple[Geometry, Sharding | None, torch.Size, torch.dtype, torch.device],
            list[tuple[int, Tensor]],
        ] = {}
        for i in range(len(tensors)) if chosen is None else chosen:
            t, sharding = held(tensors[i])
            groups.setdefault(
                (self.geometries[i], sharding, tensors[i].shape, t.dtype, t.device), []
            ).append((i, t))
        for (geometry, sharding, shape, _dtype, _device), members in groups.items():
            for some in _split(members, shape.numel(), sharding):
                yield Batch(geometry, [i for i, _ in some], [t for _, t in some], sharding)

    @staticmethod
    def _in_order(results: list[tuple[list[int], Tensor]]) -> Tensor:
        """One number an atom, in parameter order, from the results of the batches."""
        if not results:
            return torch.zeros(0)
        home = results[0][1].device
        order = [i for members, _ in results for i in members]
        return torch.cat([values.to(home) for _, values in results])[
            torch.tensor(order).argsort().to(home, non_blocking=True)
        ]

    def _check(self, vector: Vector, operation: str) -> None:
        """Refuse a vector whose names or shapes are not this model's.

        Raises:
            LayoutError: the first difference, and what to do about it.
        """
        kind = type(vector).__name__.lower()
        hint = (
            f"take the {kind} from this very model, with model.gradient(loss) or "
            "model.dualize(grad)"
        )
        if len(vector) != len(self.names):
            raise LayoutError(
                f"{operation}: the {kind} has {len(vector)} tensors and {self.owner()} has "
                f"{len(self.names)} weights; {hint}"
            )
        for name, t, own_name, weight in zip(
            vector.names, vector.tensors, self.names, self.weights, strict=True
        ):
            if name != own_name or t.shape != weight.shape:
                raise LayoutError(
                    f"{operation}: the {kind} has {name!r} of shape {list(t.shape)} where "
                    f"{self.owner()} has {own_name!r} of shape {list(weight.shape)}; {hint}"
                )


def _split(
    members: list[tuple[int, Tensor]], entries: int, sharding: Sharding | None
) -> Iterator[list[tuple[int, Tensor]]]:
    """Tensors of one shape, of so many entries as a whole, in groups that are dualized at once.

    Where processes share the work a group is as large as the workspace allows, at least one tensor
    for each, since every group is sent around by itself.
    """
    if sharding is None:
        count = matrices_at_once(entries, members[0][1].device)
    else:
        count = sharding.mesh.size() * max(1, entries_at_once() // max(1, entries))
    for start in range(0, len(members), count):
        yield members[start : start + count]


def _sum(norms: Tensor) -> Tensor:
    return norms.sum(dim=0)


def _max(norms: Tensor) -> Tensor:
    return norms.amax(dim=0)


def _numbers(numbers: list[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Python numbers as a tensor, sent to the device without waiting for what is running there."""
    return torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)
