"""The norm and the duality map of a whole network, from one coefficient for each weight.

With the coefficients c_i, which follow from the graph of the network (`modula.graph`),

    ‖w‖ = max_i ‖w_i‖_i / c_i
    ‖g‖† = Σ_i c_i · ‖g_i‖_i†
    dualize(g)_i = c_i · D_i(g_i)

These are the recursions over compositions and concatenations (Large et al. 2024, arXiv:2405.14813,
section 3; Bernstein & Newhouse 2025, arXiv:2410.21265, section 3) in closed form. Weights of one
geometry and shape are computed in one batch. This file depends on weights and geometries alone, not
on networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from modula.errors import LayoutError
from modula.geometry import Geometry, Matrices
from modula.geometry.parts import largest_touched, lengths
from modula.polar import MethodLike
from modula.polar.batching import orthogonalize_all
from modula.scaling import working_dtype
from modula.sharding import BatchMap, Sharding, local_shard, reduced, to_local_like
from modula.vector import Gradient, Scalar, Update, Vector, check_length
from modula.workspace import entries_at_once, matrices_at_once


@dataclass(frozen=True)
class Batch:
    """Tensors of one geometry, shape, dtype, device and sharding.

    Args:
        geometry: of each.
        indices: their positions in parameter order.
        tensors: [*shape] each; the shards of this process where a sharding is given.
        sharding: of all of them, or None.
        support: one step's gradients where the tensors are averages of gradients; None if every
            part of them is to have its full length.
    """

    geometry: Geometry
    indices: list[int]
    tensors: list[Tensor]
    sharding: Sharding | None
    support: list[Tensor] | None = None

    def lengths(self) -> Tensor | None:
        """Return the share of its full length that each part of each weight moves.

        Returns:
            [batch, *shape], with axes of length 1 where parts extend, of this process's shards;
            None if there is no support.
        """
        if self.support is None:
            return None
        # one weight tells whether there are parts, without a copy of them all
        one = self.tensors[0]
        if self.sharding is not None:
            one = torch.empty(self.sharding.shape, device="meta")
        found = self.geometry.part_sizes(one.unsqueeze(0))
        if found is None:
            return self.touched(self.support).view(-1, *[1] * self.tensors[0].dim())
        is_all = self.sharding is None and len(self.tensors) == 1
        sizes = found if is_all else self._part_sizes(self.tensors)
        touched = self._part_sizes(self.support) != 0  # also where it is NaN
        largest = largest_touched(sizes, touched)
        if self.sharding is not None:
            largest = self.sharding.combine(largest, _max)
        return lengths(sizes, touched, largest)

    def _part_sizes(self, tensors: list[Tensor]) -> Tensor:
        """The sizes of the parts of weights that have parts; sharded, one for each entry."""

        def sizes(whole: Tensor) -> Tensor:
            found = self.geometry.part_sizes(whole)
            return whole if found is None else found

        if self.sharding is None:
            return sizes(_stacked(tensors))
        return self.sharding.map(
            lambda whole: sizes(whole).expand_as(whole),
            _stacked(tensors),
            self.geometry.vector_axis,
        )

    def touched(self, tensors: list[Tensor]) -> Tensor:
        """Return 1 for each of these tensors that is not zero, and 0 for others: [batch]."""
        # on a CPU ten times as fast as (t != 0).any(), and never beyond the range of floats
        extremes = [
            extreme for t in tensors for extreme in (t if t.numel() else t.new_zeros(1)).aminmax()
        ]
        touched = (torch.stack(extremes).view(-1, 2) != 0).any(dim=1).float()
        return touched if self.sharding is None else self.sharding.combine(touched, _max)

    def map(self, f: BatchMap) -> Tensor:
        """Return f of the unsharded weights: [batch, *shape] -> [batch, *shape]."""
        if self.sharding is None:
            return f(self.stacked())
        return self.sharding.map(f, self.stacked(), self.geometry.vector_axis)

    def measure(self, f: BatchMap, combine: BatchMap) -> Tensor:
        """Return f of the unsharded weights: [batch, *shape] -> [batch].

        Args:
            f: a function with one number for each weight.
            combine: reduces per-shard numbers to one for each weight: [shard, batch] -> [batch].
        """
        if self.sharding is None:
            return f(self.stacked())
        return self.sharding.measure(f, self.stacked(), self.geometry.vector_axis, combine)

    def vectors(self, f: BatchMap, length: int) -> Sequence[Tensor]:
        """Return f of each unsharded weight, on every process: [batch, *shape] -> [batch, length].

        Where all weights are here, they are not copied into one tensor for it.
        """
        if self.sharding is None:
            return [f(t.unsqueeze(0)).squeeze(0) for t in self.tensors]
        return self.sharding.vectors(f, self.stacked(), length).unbind()

    def unstack(self, results: Tensor) -> list[Tensor]:
        """Return one tensor for each weight from the results of `map`, sharded as the weights."""
        if self.sharding is None:
            return list(results.unbind())
        return [self.sharding.place(result) for result in results.unbind()]

    @property
    def is_full(self) -> bool:
        """Whether the batch has as many weights as are dualized at once."""
        most = matrices_at_once(self.tensors[0].numel(), self.tensors[0].device)
        return len(self.indices) >= most

    def stacked(self) -> Tensor:
        """Return all tensors in one: [batch, *shape]."""
        return _stacked(self.tensors)


@dataclass(frozen=True, slots=True)
class Plan:
    """The weights of a network and their coefficients, in parameter order.

    Args:
        names: of the weights.
        weights: the parameters.
        geometries: the norms on them.
        mass_fractions: m_i/Σm.
        coefficients: m_i/Σm, divided by the sum of S over the uses of the weight.
        owner: returns the network as text, for error messages.
    """

    names: tuple[str, ...]
    weights: Sequence[Tensor]
    geometries: Sequence[Geometry]
    mass_fractions: Sequence[float]
    coefficients: Sequence[float]
    owner: Callable[[], str]

    def only(self, chosen: Sequence[int]) -> Plan:
        """Return the plan of the weights at these positions, with their coefficients unchanged."""
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
        support: Gradient | None = None,
    ) -> Update:
        """Return target_norm · c_i · D_i(g_i) for each weight, zero where c_i is zero.

        With `support`, parts of a weight that it does not touch come to rest (`Batch.lengths`).
        """
        check_length("target_norm", target_norm)
        self._check(gradient, "dualize")
        if support is not None:
            self._check(support, "dualize")
        trained = [i for i, coefficient in enumerate(self.coefficients) if coefficient > 0]
        batches = self._batches(
            gradient.tensors, trained, None if support is None else support.tensors
        )
        duals: dict[int, Tensor] = {}
        for batch, found in self._duals(batches, target_norm, method):
            results = batch.unstack(found.to(batch.tensors[0].dtype))
            duals.update(zip(batch.indices, results, strict=True))
        return Update.from_tensors(
            gradient.names,
            [
                duals[i] if i in duals else torch.zeros_like(g)
                for i, g in enumerate(gradient.tensors)
            ],
        )

    def norm(self, update: Update) -> Tensor:
        """Return max_i ‖u_i‖_i / c_i, with 0/0 = 0."""
        self._check(update, "norm")
        norms = self.norms(update.tensors)
        ratios = torch.where(norms == 0, norms, norms / self._coefficients(norms))
        return ratios.amax() if self.names else ratios.sum()

    def dual_norm(self, gradient: Gradient) -> Tensor:
        """Return Σ_i c_i · ‖g_i‖_i†, where a weight with c_i = 0 counts as 0 for every gradient."""
        return self.dual_norms(gradient).sum()

    def dual_norms(self, gradient: Gradient) -> Tensor:
        """Return c_i · ‖g_i‖_i† of each weight, the terms of `dual_norm`, [weights]."""
        self._check(gradient, "dual_norm")
        norms = self._in_order(
            [
                (batch.indices, batch.measure(batch.geometry.dual_norm, _sum))
                for batch in self._batches(gradient.tensors)
            ]
        )
        coefficients = self._coefficients(norms)
        return torch.where(coefficients == 0, 0, coefficients * norms)

    def normalize(
        self, update: Update, target_norm: Scalar = 1.0, support: Gradient | None = None
    ) -> Update:
        """Rescale each tensor of an update to ‖u_i‖_i = target_norm · c_i; zero stays zero.

        With `support`, the gradient of one step, a tensor that it does not touch becomes zero.
        """
        check_length("target_norm", target_norm)
        self._check(update, "normalize")
        norms = self.norms(update.tensors)
        lengths = target_norm * self._coefficients(norms)
        if support is not None:
            touched = [(b.indices, b.touched(b.tensors)) for b in self._batches(support.tensors)]
            lengths = lengths * self._in_order(touched)
        # By the square root, since the ratio to a subnormal norm is beyond float32.
        roots = (lengths.abs().sqrt() / torch.where(norms == 0, 1, norms).sqrt()).unbind()
        tensors = [
            (t * root.to(t.device) * (sign * root).to(t.device)).to(t.dtype)
            if coefficient
            else torch.zeros_like(t)
            for t, root, sign, coefficient in zip(
                update.tensors, roots, lengths.sign().unbind(), self.coefficients, strict=True
            )
        ]
        return Update.from_tensors(update.names, tensors)

    def project(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Project each weight onto its natural constraint set."""
        return self.map(lambda geometry, batch: geometry.project(batch), weights)

    def map(
        self, f: Callable[[Geometry, Tensor], Tensor], tensors: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return a function of each whole tensor that belongs to a weight, sharded as the tensor.

        Args:
            f: from the geometry of some weights and a batch of their tensors, [batch, *shape], to
                a batch of the same shape.
            tensors: one for each weight, in its shape.
        """
        mapped: dict[int, Tensor] = {}
        for batch in self._batches(tensors):
            results = batch.unstack(batch.map(partial(f, batch.geometry)))
            mapped.update(zip(batch.indices, results, strict=True))
        return [mapped[i] for i in range(len(tensors))]

    def vectors(
        self,
        f: Callable[[Geometry, Tensor], Tensor],
        tensors: Sequence[Tensor],
        lengths: Sequence[int],
    ) -> list[Tensor]:
        """Return a vector for each whole tensor that belongs to a weight, on every process.

        Args:
            f: from the geometry of some weights and a batch of their tensors, [batch, *shape], to
                vectors, [batch, length].
            tensors: one for each weight, in its shape.
            lengths: of the vectors.
        """
        found: dict[int, Tensor] = {}
        for batch in self._batches(tensors):
            vectors = batch.vectors(partial(f, batch.geometry), lengths[batch.indices[0]])
            found.update(zip(batch.indices, vectors, strict=True))
        return [found[i] for i in range(len(tensors))]

    def spread(
        self,
        f: Callable[[Geometry, torch.Size, Tensor], Tensor],
        vectors: Sequence[Tensor],
        like: Sequence[Tensor],
    ) -> list[Tensor]:
        """Return this process's shards of tensors that are made of a vector for each weight.

        Args:
            f: from the geometry of some weights, the shape of one and their vectors, [batch, n], to
                a batch of whole tensors, [batch, *shape].
            vectors: one for each weight, equal on all processes.
            like: the tensors that have the layouts asked for.
        """
        made: dict[int, Tensor] = {}
        for batch in self._batches(like):
            shape = like[batch.indices[0]].shape
            whole = f(batch.geometry, shape, torch.stack([vectors[i] for i in batch.indices]))
            shards = whole if batch.sharding is None else batch.sharding.shards_of(whole)
            made.update(zip(batch.indices, shards.unbind(), strict=True))
        return [made[i] for i in range(len(like))]

    def norms(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return ‖t_i‖_i of each tensor in the norm of its weight alone, [weights].

        Args:
            tensors: one for each weight, in its shape.
        """
        return self._in_order(
            [
                (batch.indices, batch.measure(batch.geometry.norm, _max))
                for batch in self._batches(tensors)
            ]
        )

    def _duals(
        self, batches: Iterable[Batch], target_norm: Scalar, method: MethodLike | None
    ) -> Iterator[tuple[Batch, Tensor]]:
        """target_norm · c_i · D_i(g_i) for each batch.

        The matrices of all batches that are not full are orthogonalised together.
        """
        waiting: list[tuple[Batch, Matrices]] = []
        for batch in batches:
            dualize = partial(batch.geometry.dualize, method=method)
            if batch.sharding is not None:
                yield batch, self._scaled(batch, batch.map(dualize), target_norm)
                continue
            stacked = batch.stacked()
            matrices = batch.geometry.orthogonal_parts(stacked)
            if matrices is None:
                yield batch, self._scaled(batch, dualize(stacked), target_norm)
            elif batch.is_full:
                yield from self._orthogonalized([(batch, matrices)], target_norm, method)
            else:
                waiting.append((batch, matrices))
        yield from self._orthogonalized(waiting, target_norm, method)

    def _orthogonalized(
        self,
        batches: Sequence[tuple[Batch, Matrices]],
        target_norm: Scalar,
        method: MethodLike | None,
    ) -> Iterator[tuple[Batch, Tensor]]:
        """target_norm · c_i · D_i(g_i) for batches of weights that consist of matrices."""
        flat = [one.flatten(0, 1) for _, matrices in batches for one in matrices.matrices]
        orthogonal = iter(orthogonalize_all(flat, method))
        for batch, matrices in batches:
            factors = []
            shares = batch.lengths()
            whole = shares is not None and shares.numel() == len(batch.tensors)
            for radius in matrices.radii:
                factor = next(orthogonal)
                factor = factor.view(len(batch.tensors), -1, *factor.shape[1:])
                column = self._column(batch, radius, factor) * target_norm
                if whole and shares is not None:
                    column = column * shares.view(column.shape)
                factors.append(factor.mul_(column))
            shape = tuple(batch.tensors[0].shape)
            duals = batch.geometry.from_orthogonal_parts(factors, shape)
            yield batch, duals if whole or shares is None else duals * shares

    def _scaled(self, batch: Batch, duals: Tensor, target_norm: Scalar) -> Tensor:
        scaled = duals * self._column(batch, 1.0, duals) * target_norm
        shares = batch.lengths()
        return scaled if shares is None else scaled.mul_(shares)

    def _column(self, batch: Batch, radius: float, like: Tensor) -> Tensor:
        """radius · c_i for each weight of the batch, shaped to multiply `like`."""
        numbers = [radius * self.coefficients[i] for i in batch.indices]
        return _numbers(numbers, working_dtype(like.dtype), like.device).view(
            -1, *[1] * (like.dim() - 1)
        )

    def _coefficients(self, like: Tensor) -> Tensor:
        return _numbers(self.coefficients, like.dtype, like.device)

    def _batches(
        self,
        tensors: Sequence[Tensor],
        chosen: Sequence[int] | None = None,
        support: Sequence[Tensor] | None = None,
    ) -> Iterator[Batch]:
        """Group the chosen tensors, all by default, into batches, each with its support."""
        groups: dict[
            tuple[Geometry, Sharding | None, torch.Size, torch.dtype, torch.device],
            list[tuple[int, Tensor]],
        ] = {}
        for i in range(len(tensors)) if chosen is None else chosen:
            t, sharding = local_shard(tensors[i])
            groups.setdefault(
                (self.geometries[i], sharding, tensors[i].shape, t.dtype, t.device), []
            ).append((i, t))
        for (geometry, sharding, shape, _dtype, _device), group in groups.items():
            for some in _split(group, shape.numel(), sharding):
                indices = [i for i, _ in some]
                of_step = None
                if support is not None:
                    of_step = [to_local_like(reduced(support[i]), tensors[i]) for i in indices]
                yield Batch(geometry, indices, [t for _, t in some], sharding, of_step)

    @staticmethod
    def _in_order(results: list[tuple[list[int], Tensor]]) -> Tensor:
        """The numbers of all weights in parameter order, from indices and numbers by batch."""
        if not results:
            return torch.zeros(0, device="cpu")
        home = results[0][1].device
        order = [i for indices, _ in results for i in indices]
        return torch.cat([values.to(home) for _, values in results])[
            torch.tensor(order, device="cpu").argsort().to(home, non_blocking=True)
        ]

    def _check(self, vector: Vector, operation: str) -> None:
        """Raise if a vector's names or shapes are not those of the weights.

        Raises:
            LayoutError: names the first difference.
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
    tensors: list[tuple[int, Tensor]], entries: int, sharding: Sharding | None
) -> Iterator[list[tuple[int, Tensor]]]:
    """Tensors of one shape, in groups that are dualized at once.

    Each sharded group costs one round of communication. It is therefore as large as the workspace
    allows, and has at least one tensor for each process.

    Args:
        tensors: with their positions in parameter order.
        entries: of one unsharded tensor.
        sharding: of all of them, or None.
    """
    if sharding is None:
        count = matrices_at_once(entries, tensors[0][1].device)
    else:
        count = sharding.mesh.size() * max(1, entries_at_once() // max(1, entries))
    for start in range(0, len(tensors), count):
        yield tensors[start : start + count]


def _stacked(tensors: list[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


def _sum(norms: Tensor) -> Tensor:
    return norms.sum(dim=0)


def _max(norms: Tensor) -> Tensor:
    return norms.amax(dim=0)


def _numbers(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Python numbers as a tensor on the device, copied without a synchronisation."""
    return torch.tensor(numbers, dtype=dtype, device="cpu").to(device, non_blocking=True)
