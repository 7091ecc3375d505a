"""The facts about a checkpoint that all processes must share before the first one writes it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from modula.checkpoint.contents import Contents, map_tensors
from modula.sharding import is_sharded

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the number of bytes of an entry."""


def facts_of(
    contents: Contents, module: nn.Module, optimizer: torch.optim.Optimizer | None
) -> dict[str, str]:
    """Return everything that is equal on processes that have the same model, as text by name.

    Of a tensor that every process has whole these are its shape, its dtype and the sum of its
    entries' bits; of a sharded one its layout. Buffers may differ, as running averages do that
    every process computes from its own batches.
    """
    own = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    facts = dict(_of_description(contents))
    facts |= _of_settings(contents)

    def note(name: str, t: Tensor, _: Tensor) -> Tensor:
        is_buffer = name.startswith("model.") and name.removeprefix("model.") not in own
        facts[name] = _outline(t) if is_buffer or is_sharded(t) else f"{_outline(t)}, {_bits(t)}"
        return t

    map_tensors(contents, module, optimizer, note)
    return facts


def _of_description(contents: Contents) -> Iterator[tuple[str, str]]:
    for key, value in contents.description.items():
        if isinstance(value, dict):
            yield from (
                (f"the description ({key}) of {path!r}", repr(v)) for path, v in value.items()
            )
        else:
            yield f"the description ({key})", repr(value)


def _of_settings(contents: Contents) -> dict[str, str]:
    """The settings and the counts of the optimizer."""
    if contents.optimizer is None:
        return {}
    groups = contents.optimizer["param_groups"]
    states = contents.optimizer["state"]
    found = {
        f"{key} of the optimizer's group {i}": _plain(value)
        for i, group in enumerate(groups)
        for key, value in group.items()
    }
    return found | {
        f"{key} of the optimizer's parameter {index}": _plain(value)
        for index, state in states.items()
        for key, value in (state if isinstance(state, dict) else {"": state}).items()
    }


def _plain(value: object) -> str:
    """A single number as text; a larger tensor by its outline."""
    if not isinstance(value, Tensor):
        return repr(value)
    return _outline(value) if value.dim() or is_sharded(value) else repr(value.item())


def _outline(t: Tensor) -> str:
    layout = f" on {t.placements}" if is_sharded(t) else ""
    return f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}{layout}"


def _bits(t: Tensor) -> str:
    """The sum of the entries' bits, as integers: the same for the same values, on any device."""
    dtype = _INTEGERS.get(t.element_size())
    if dtype is None or t.layout is not torch.strided or t.is_quantized:
        return "not compared"
    bits = t.detach().resolve_conj().resolve_neg().contiguous().view(dtype)
    return f"of bits {int(bits.sum(dtype=torch.int64))}"
