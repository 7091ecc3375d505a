"""The plan: every weight of a network with its coefficient, in batches that are computed at once.

With one coefficient c_i for each weight (`modula.graph` says how it follows from the network),

    ‖w‖ = max_i ‖w_i‖_i / c_i
    ‖g‖† = Σ_i c_i · ‖g_i‖_i†
    dualize(g)_i = c_i · D_i(g_i)

which is the recursion over compositions and concatenations (Large et al. 2024, arXiv:2405.14813,
section 3; Bernstein & Newhouse 2025, arXiv:2410.21265, section 3), unrolled. This file knows
weights and geometries only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from modula.errors import LayoutError
from modula.geometry import Geometry, Matrices
from modula.polar import MethodLike
from modula.polar.batching import orthogonalize_all
from modula.scaling import working_dtype
from modula.sharding import BatchMap, Sharding, local_shard
from modula.vector import Gradient, Scalar, Update, Vector
from modula.workspace import entries_at_once, matrices_at_once


class Batch(NamedTuple):
    """Tensors of one geometry, shape, dtype, device and sharding.

    Args:
        geometry: of each.
        members: their positions in parameter order.
        tensors: [*shape] each; where a sharding is given, this process's shards.
        sharding: how they are sharded, or None.
    """

    geometry: Geometry
    members: list[int]
    tensors: list[Tensor]
    sharding: Sharding | None

    def map(self, f: BatchMap) -> Tensor:
        """Return f of whole weights: [batch, *shape] -> [batch, *shape]."""
        if self.sharding is None:
            return f(self.stacked())
        return self.sharding.map(f, self.stacked(), self.geometry.vector_axis)

    def measure(self, f: BatchMap, combine: BatchMap) -> Tensor:
        """Return f of whole weights: [batch, *shape] -> [batch].

        Args:
            f: one number for each weight.
            combine: reduces the numbers of a weight's shards to one: [shard, batch] -> [batch].
        """
        if self.sharding is None:
            return f(self.stacked())
        return self.sharding.measure(f, self.stacked(), self.geometry.vector_axis, combine)

    def unstack(self, results: Tensor) -> list[Tensor]:
        """Return one tensor for each member, from the results of `map`."""
        if self.sharding is None:
            return list(results.unbind())
        return [self.sharding.place(result) for result in results.unbind()]

    @property
    def is_full(self) -> bool:
        """Whether no more weights of this shape would be dualized at once."""
        most = matrices_at_once(self.tensors[0].numel(), self.tensors[0].device)
        return len(self.members) >= most

    def stacked(self) -> Tensor:
        """Return all tensors in one: [batch, *shape]."""
        if len(self.tensors) == 1:
            return self.tensors[0].unsqueeze(0)
        return torch.stack(self.tensors)


@dataclass(frozen=True, slots=True)
class Plan:
    """The weights of a network and their coefficients. All lists are in parameter order.

    Args:
        names: of the weights.
        weights: the parameters.
        geometries: the norms on them.
        mass_fractions: m_i/Σm.
        coefficients: m_i/Σm over the sum of S over the weight's uses.
        owner: writes the network for error messages.
    """

    names: tuple[str, ...]
    weights: Sequence[Tensor]
    geometries: Sequence[Geometry]
    mass_fractions: Sequence[float]
    coefficients: Sequence[float]
    owner: Callable[[], str]

    def only(self, chosen: Sequence[int]) -> Plan:
        """Return a plan of the weights at these positions, with the coefficients they have here."""
        return Plan(
            names=tuple([self.names[i] for i in chosen]),
            weights=[self.weights[i] for i in chosen],
            geometries=[self.geometries[i] for i in chosen],
            mass_fractions=[self.mass_fractions[i] for i in chosen],
            coefficients=[self.coefficients[i] for i in chosen],
            owner=self.owner,
        )

    def dualize(
        self,
        gradient: Gradient,
        target_norm: Scalar = 1.0,
        method: MethodLike | None = None,
    ) -> Update:
        """Return target_norm · c_i · D_i(g_i) for each weight, zero where c_i is zero."""
        self._check(gradient, "dualize")
        trained = [i for i, coefficient in enumerate(self.coefficients) if coefficient > 0]
        batches = self._batches(gradient.tensors, trained)
        duals: dict[int, Tensor] = {}
        for batch, found in self._duals(batches, target_norm, method):
            results = batch.unstack(found.to(batch.tensors[0].dtype))
            duals.update(zip(batch.members, results, strict=True))
        return Update.from_tensors(
            gradient.names,
            [
                duals[i] if i in duals else torch.zeros_like(g)
                for i, g in enumerate(gradient.tensors)
            ],
        )

    def norm(self, update: Update) -> Tensor:
        """Return max_i ‖u_i‖_i / c_i, where a zero part counts as zero whatever its c_i."""
        self._check(update, "norm")
        norms = self._norms(update)
        ratios = torch.where(norms == 0, norms, norms / self._coefficients(norms))
        return ratios.amax() if self.names else ratios.sum()

    def dual_norm(self, gradient: Gradient) -> Tensor:
        """Return Σ_i c_i · ‖g_i‖_i†, to which a weight that is not trained adds nothing."""
        self._check(gradient, "dual_norm")
        norms = self._in_order(
            [
                (batch.members, batch.measure(batch.geometry.dual_norm, _sum))
                for batch in self._batches(gradient.tensors)
            ]
        )
        coefficients = self._coefficients(norms)
        return torch.where(coefficients == 0, 0, coefficients * norms).sum()

    def normalize(self, update: Update, target_norm: Scalar = 1.0) -> Update:
        """Rescale each part of an update to ‖u_i‖_i = target_norm · c_i; zero stays zero."""
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
        return Update.from_tensors(update.names, parts)

    def project(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Project each weight onto its natural constraint set."""
        parts: dict[int, Tensor] = {}
        for batch in self._batches(weights):
            parts.update(
                zip(batch.members, batch.unstack(batch.map(batch.geometry.project)), strict=True)
            )
        return [parts[i] for i in range(len(weights))]

    def _duals(
        self, batches: Iterable[Batch], target_norm: Scalar, method: MethodLike | None
    ) -> Iterator[tuple[Batch, Tensor]]:
        """target_norm · c_i · D_i(g_i) for each batch.

        The matrices of all batches that fill no workspace by themselves are orthogonalised
        together.
        """
        waiting: list[tuple[Batch, Matrices]] = []
        for batch in batches:
            dualize = partial(batch.geometry.dualize, method=method)
            if batch.sharding is not None:
                yield batch, self._scaled(batch, batch.map(dualize), target_norm)
                continue
            stacked = batch.stacked()
            parts = batch.geometry.orthogonal_parts(stacked)
            if parts is None:
                yield batch, self._scaled(batch, dualize(stacked), target_norm)
            elif batch.is_full:
                yield from self._orthogonalized([(batch, parts)], target_norm, method)
            else:
                waiting.append((batch, parts))
        yield from self._orthogonalized(waiting, target_norm, method)

    def _orthogonalized(
        self,
        batches: Sequence[tuple[Batch, Matrices]],
        target_norm: Scalar,
        method: MethodLike | None,
    ) -> Iterator[tuple[Batch, Tensor]]:
        """The same for weights made of matrices, all of which are orthogonalised together."""
        matrices = [one.flatten(0, 1) for _, parts in batches for one in parts.matrices]
        found = iter(orthogonalize_all(matrices, method))
        for batch, parts in batches:
            factors = []
            for radius in parts.radii:
                factor = next(found)
                factor = factor.view(len(batch.tensors), -1, *factor.shape[1:])
                column = self._column(batch, radius, factor)
                factors.append(factor.mul_(column * target_norm))
            shape = tuple(batch.tensors[0].shape)
            yield batch, batch.geometry.from_orthogonal_parts(factors, shape)

    def _scaled(self, batch: Batch, duals: Tensor, target_norm: Scalar) -> Tensor:
        return duals * self._column(batch, 1.0, duals) * target_norm

    def _column(self, batch: Batch, radius: float, like: Tensor) -> Tensor:
        """radius · c_i for each member of the batch, shaped to multiply `like`."""
        numbers = [radius * self.coefficients[i] for i in batch.members]
        return _numbers(numbers, working_dtype(like.dtype), like.device).view(
            -1, *[1] * (like.dim() - 1)
        )

    def _norms(self, update: Update) -> Tensor:
        """‖u_i‖_i for each weight, in parameter order."""
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
        """Group the chosen tensors, all by default, into batches."""
        groups: dict[
            tuple[Geometry, Sharding | None, torch.Size, torch.dtype, torch.device],
            list[tuple[int, Tensor]],
        ] = {}
        for i in range(len(tensors)) if chosen is None else chosen:
            t, sharding = local_shard(tensors[i])
            groups.setdefault(
                (self.geometries[i], sharding, tensors[i].shape, t.dtype, t.device), []
            ).append((i, t))
        for (geometry, sharding, shape, _dtype, _device), members in groups.items():
            for some in _split(members, shape.numel(), sharding):
                yield Batch(geometry, [i for i, _ in some], [t for _, t in some], sharding)

    @staticmethod
    def _in_order(results: list[tuple[list[int], Tensor]]) -> Tensor:
        """One number a weight, in parameter order, from the results of the batches."""
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


def _numbers(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Python numbers as a tensor, sent to the device without waiting for what is running there."""
    return torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)
