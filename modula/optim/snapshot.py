"""What a step is about to change, as it was, so that a step that fails changes nothing."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor

from modula.optim.rules import State
from modula.optim.signals import signals_wait
from modula.sharding import all_to_local


class Snapshot:
    """Copies of tensors and of states, which `restore` writes back.

    Tensors are written back in place, since others may have views of them (a compiled step, a CUDA
    graph, a wrapper of the model).
    """

    def __init__(self) -> None:
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._states: list[tuple[MutableMapping[Tensor, State], Tensor, State | None]] = []

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Copy tensors before they are changed; of DTensors this process's shards."""
        detached = [local.detach() for local in all_to_local(tensors)]
        self._copies += [(local, local.clone()) for local in detached]

    def keep_states(self, states: MutableMapping[Tensor, State], params: Sequence[Tensor]) -> None:
        """Copy the states of parameters, of which some may not have been begun."""
        begun = {p: states.get(p) for p in params}
        self._states += [
            (states, p, None if state is None else dict(state)) for p, state in begun.items()
        ]
        self.keep([t for state in begun.values() if state is not None for t in state.values()])

    def forget(self) -> None:
        """Keep the step: `restore` writes nothing back any more."""
        self._copies.clear()
        self._states.clear()

    @torch.no_grad()
    def restore(self) -> None:
        """Write everything back. Signals wait until this is done."""
        with signals_wait():
            for tensor, copy in self._copies:
                tensor.copy_(copy)
            for states, p, before in self._states:
                if before is None:
                    states.pop(p, None)
                else:
                    states[p].clear()
                    states[p].update(before)
