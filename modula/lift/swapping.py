"""`swapped`: a module that runs with other values of its weights for the time of a block.

`torch.func.functional_call` does not put back the parameters of a module that has two paths, and
does not reach those that recurrent layers list a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def swapped(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Run the block with these tensors in the place of parameters, also where these are shared.

    Args:
        model: whose parameters are put back after the block.
        values: by the name of the parameter.
    """
    named = dict(model.named_parameters())
    new = {id(named[name]): value for name, value in values.items()}
    kept: list[tuple[dict[str, Tensor | None], str, Tensor]] = []
    listed: list[tuple[list[object], list[object]]] = []
    for module in model.modules():
        parameters: dict[str, Tensor | None] = module._parameters  # type: ignore[assignment] # torch's own, which takes tensors here
        for name, tensor in parameters.items():
            if tensor is not None and id(tensor) in new:
                kept.append((parameters, name, tensor))
        for entries in module.__dict__.values():
            if isinstance(entries, list) and any(id(one) in new for one in entries):
                listed.append((entries, list(entries)))
    try:
        for parameters, name, tensor in kept:
            parameters[name] = new[id(tensor)]
        for entries, before in listed:
            entries[:] = [new.get(id(one), one) for one in before]
        yield
    finally:
        for parameters, name, tensor in kept:
            parameters[name] = tensor
        for entries, before in listed:
            entries[:] = before
