"""Changes of a model and an optimizer that are undone if they fail halfway."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from modula.checkpoint.description import Model, torch_module_of
from modula.errors import CheckpointError
from modula.network import Network
from modula.sharding import is_sharded


def remember(model: Model, optimizer: torch.optim.Optimizer | None) -> Callable[[], None]:
    """Return a function that restores what a load changes of a model and an optimizer.

    The weights are copied, to the CPU, which has more memory than the device. Of the optimizer's
    states, which a load replaces and does not overwrite, there is no copy.
    """
    module = torch_module_of(model)
    state = module.state_dict()
    tensors = [_local(t) for t in state.values() if isinstance(t, Tensor)]
    copies = [t.detach().to("cpu", copy=True) for t in tensors]
    states = None if optimizer is None else _states(optimizer)
    restore_constants = _constants_of(model)

    def restore() -> None:
        with torch.no_grad():
            for t, copy in zip(tensors, copies, strict=True):
                t.copy_(copy)
        for path, part in module.named_modules():
            name = f"{path}._extra_state" if path else "_extra_state"
            if name in state:
                part.set_extra_state(state[name])
        if optimizer is not None and states is not None:
            optimizer.__setstate__(states)
        restore_constants()

    return restore


@contextmanager
def measured_as(saved: Mapping[str, object], model: Model) -> Iterator[None]:
    """Give a network the measurements of a checkpoint while the block runs.

    Args:
        saved: the measurements, empty if there are none.
        model: of the same operations.

    Raises:
        CheckpointError: they are of another network.
    """
    restore_constants = _constants_of(model)
    try:
        if isinstance(model, Network) and saved:
            model.restore_measurements(saved)
        yield
    except ValueError as error:
        raise CheckpointError(f"the checkpoint is of another network: {error}") from error
    finally:
        restore_constants()


def _constants_of(model: Model) -> Callable[[], None]:
    """What restores the measurements and the masses that a network has now."""
    if not isinstance(model, Network) or not (measurements := model.measurements()):
        return lambda: None
    weights = list(model.graph().weights.values())
    masses = [weight.mass for weight in weights]

    def restore() -> None:
        model.restore_measurements(measurements)
        for weight, mass in zip(weights, masses, strict=True):
            weight.mass = mass

    return restore


def _local(t: Tensor) -> Tensor:
    """This process's shard of a tensor."""
    return t.to_local() if is_sharded(t) else t


def _states(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    states = defaultdict(dict, {p: dict(state) for p, state in optimizer.state.items()})
    return {"state": states, "param_groups": [dict(group) for group in optimizer.param_groups]}
