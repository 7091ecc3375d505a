"""Runs of a torch module that leave the module and the random state as they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from modula.errors import LiftError


@contextmanager
def restored(model: nn.Module, seed: int) -> Iterator[None]:
    """Run the block with random numbers of its own; put all state back after it.

    State are buffers, attributes of modules and the random state.

    Args:
        model: the module that the block runs.
        seed: of the random numbers of the run, such as dropout's.

    Raises:
        LiftError: the run replaced or wrote a parameter.
    """
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    parameters = {name: (p, _version(p)) for name, p in model.named_parameters()}
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    with torch.random.fork_rng(devices=_devices(model)), _eager():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer
                    buffer.copy_(value)
            for module, before in attributes:
                _put_back(module, before)
    after = dict(model.named_parameters())
    for name, (parameter, version) in parameters.items():
        if after.get(name) is not parameter or _version(parameter) != version:
            raise LiftError(
                f"the forward pass wrote or replaced the parameter {name!r}: a network whose "
                "weights change as it runs cannot be lifted; make it a buffer"
            )


def _put_back(module: nn.Module, before: Mapping[str, object]) -> None:
    """Give a module the attributes that it had, such as a count of its calls."""
    now = module.__dict__
    for name in [name for name in now if name not in before]:
        del now[name]
    now.update({name: value for name, value in before.items() if now.get(name) is not value})


def _eager() -> AbstractContextManager[None]:
    """The context in which nothing is compiled.

    torch._dynamo takes seconds to import, and nothing is compiled before it is.
    """
    is_loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if is_loaded else nullcontext()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _devices(model: nn.Module) -> list[int]:
    found = {t.device for t in (*model.parameters(), *model.buffers())}
    return sorted({d.index or 0 for d in found if d.type == "cuda"})
