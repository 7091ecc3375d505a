"""Sensitivities in quadrature: squares of measured gains, added over all paths of the graph.

The gain of an operation in one slot is the root mean square of the change of its output for a
random change of that input, ‖J‖_F/√N_out, with the operation where it is in the run. Backwards over
the graph,

    S(output) = 1,   S(node)² = Σ over its readers of gain² · S(reader)²,

which takes the changes along different paths as independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from modula.lift.calibration import normal_entries
from modula.lift.inputs import Inputs
from modula.lift.nested import map_tensors, tensors_in
from modula.lift.restoring import restored
from modula.lift.sensitivities import Sensitivities, drawn_values
from modula.lift.signatures import operation_name, slots
from modula.lift.swapping import swapped
from modula.lift.trace import Recorder
from modula.lift.uses import Measured
from modula.vector import dense


def in_quadrature(
    model: nn.Module,
    examples: Sequence[Inputs],
    norms: Mapping[str, Measured],
    probes: int,
    seed: int,
) -> Sensitivities:
    """Return S for each weight, accumulated in quadrature at drawn weights.

    Args:
        model: the module, with whole parameters.
        examples: its example inputs.
        norms: of the weights that they use.
        probes: the number of random changes by which a gain is measured.
        seed: of all random numbers.
    """
    parameters = dict(model.named_parameters())
    present = {name: parameters[name].detach() for name in norms}
    values, sizes = drawn_values(present, norms, seed)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
    squares = dict.fromkeys(norms, 0.0)
    for example in examples:
        with restored(model, seed), swapped(model, leaves):
            recorder = _Gains(model, probes, seed)
            with recorder.running(example.args, example.kwargs):
                output = model(*example.args, **example.kwargs)
            for name, square in recorder.accumulated(output).items():
                if name in squares:
                    squares[name] += square / len(examples)
    return Sensitivities({name: sizes[name] * math.sqrt(squares[name]) for name in norms})


class _Gains(Recorder):
    """A recorder that measures the gain of each call in each slot."""

    def __init__(self, model: nn.Module, probes: int, seed: int) -> None:
        super().__init__(model, None)
        self._probes = probes
        self._generator = torch.Generator().manual_seed(seed)
        self._gains: dict[int, dict[str, float]] = {}

    def measure(
        self,
        index: int,
        func: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> None:
        leaves: dict[int, Tensor] = {}
        own = torch.autograd.graph.saved_tensors_hooks(_itself, _itself)

        def again(tensor: Tensor) -> Tensor:
            if not (tensor.is_floating_point() or tensor.is_complex()):
                return tensor
            if self.source(tensor).kind == "constant":  # such as running statistics
                return tensor.detach().clone()
            leaf = leaves.setdefault(id(tensor), tensor.detach().clone().requires_grad_())
            return leaf.clone()  # which may be written in place

        name = operation_name(func)
        read = {slot: id(t) for slot, t in slots(name, args, kwargs)}
        with torch.enable_grad(), own:
            inputs = [map_tensors(again, value) for value in args]
            named = {key: map_tensors(again, value) for key, value in kwargs.items()}
            result = func(*inputs, **named)
            made = tensors_in(inputs[0] if name == "setitem" else result)
            outputs = [_real(t) for _, t in made if t.requires_grad]
            squares = self._squares(outputs, leaves)
        self._gains[index] = {slot: squares.get(key, 0.0) for slot, key in read.items()}

    def accumulated(self, output: object) -> dict[str, float]:
        """Return S² for each parameter that the output of the run depends on."""
        S = [0.0] * len(self.calls)
        found: dict[str, float] = {}
        for _, tensor in tensors_in(output):
            if tensor.is_floating_point() or tensor.is_complex():
                for source in self.sources(tensor)[-1:]:
                    if source.kind == "call":
                        S[source.call] += 1.0
        for call in reversed(self.calls):
            written = {a.slot.removesuffix(" as written") for a in call.arguments if " " in a.slot}
            for argument in call.arguments:
                if argument.slot in written:  # its last writer has read it
                    continue
                slot = argument.slot.removesuffix(" as written")
                square = self._gains[call.index].get(slot, 0.0) * S[call.index]
                source = argument.source
                if source.kind == "call":
                    S[source.call] += square
                elif source.kind == "parameter":
                    found[source.parameter] = found.get(source.parameter, 0.0) + square
        return found

    def _squares(self, outputs: Sequence[Tensor], leaves: Mapping[int, Tensor]) -> dict[int, float]:
        """gain² for each tensor that a call read."""
        found = dict.fromkeys(leaves, 0.0)
        if not outputs or not leaves:
            return found
        entries = sum(t.numel() for t in outputs)
        for _ in range(self._probes):
            cotangents = [
                normal_entries(t.shape, self._generator).to(t.device, t.dtype) for t in outputs
            ]
            gradients = torch.autograd.grad(
                outputs, list(leaves.values()), cotangents, retain_graph=True, allow_unused=True
            )
            for key, g in zip(leaves, gradients, strict=True):
                if g is not None:
                    square = (
                        float(torch.linalg.vector_norm(_real(dense(g)), dtype=torch.float64)) ** 2
                    )
                    found[key] += square / (self._probes * entries)
        return found


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
