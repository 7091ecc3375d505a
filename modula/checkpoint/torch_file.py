"""One file, in the format of `torch.save`, read with `weights_only=True`."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from modula.atomic import write_whole
from modula.checkpoint.contents import Contents
from modula.checkpoint.description import read_description
from modula.checkpoint.processes import is_first, together
from modula.checkpoint.seal import check_seal, write_sealed
from modula.errors import CheckpointError
from modula.sharding import is_sharded

DESCRIPTION = "modula"
"""The entry with the description, by which a checkpoint is recognised."""

_REASON = re.compile(r"WeightsUnpickler error: (.*)")
"""The part of torch's long error that says what it did not read."""

_OWN = (DESCRIPTION, "model", "optimizer")


class TorchFile:
    """A file with entries "modula", "model" and "optimizer", and the user's beside them."""

    def check(self, contents: Contents) -> None:
        refuse_names(contents, DESCRIPTION)
        refuse_sharded(contents)

    def write(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        together(lambda: write_file(path, contents) if is_first() else None)

    def read(self, path: Path) -> Contents:
        contents = read_file(path)
        if any(t.is_meta for t in contents.tensors()):
            raise CheckpointError(
                f"{path} is the index of a checkpoint in a folder: load {path.parent}"
            )
        return contents

    def fill(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents | None:
        return contents


def refuse_names(contents: Contents, *own: str) -> None:
    """Raise if an extra has the name of an entry of the checkpoint itself.

    Raises:
        CheckpointError: there is one.
    """
    for name in own:
        if name in contents.extra:
            raise CheckpointError(
                f"{name!r} is the name of the checkpoint's own entry: give yours another name"
            )


def refuse_sharded(contents: Contents) -> None:
    """Raise if there is a DTensor, of which this process has only a shard.

    Raises:
        CheckpointError: there is one.
    """
    if any(is_sharded(t) for t in contents.tensors()):
        raise CheckpointError(
            "the model is sharded, and a file would gather all of it on one process: give a path "
            "without a suffix, for a folder into which every process writes its shards"
        )


def refuse_folder(path: Path) -> None:
    """Raise if a folder is where a file is to be written.

    Raises:
        CheckpointError: it is.
    """
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, and this checkpoint is one file: give another path"
        )


def write_file(path: Path, contents: Contents) -> None:
    """Write one file, from this process. It is read back before it replaces an earlier one."""
    refuse_folder(path)
    state = {
        DESCRIPTION: contents.description,
        "model": contents.model,
        "optimizer": contents.optimizer,
        **contents.extra,
    }
    write_whole(
        path,
        lambda file: write_sealed(file, lambda archive: torch.save(state, archive)),
        check=lambda unfinished: _read_back(unfinished, path),
    )


def _read_back(unfinished: Path, path: Path) -> None:
    """Raise if `read_file` would not read a file. Tensors stay on the disk.

    Raises:
        CheckpointError: it would not.
    """
    try:
        state = torch.load(unfinished, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = _REASON.search(str(error))
        raise CheckpointError(
            f"{path} is not written, because torch.load(weights_only=True) would not read it: "
            f"{reason[1] if reason else error}"
        ) from error
    _contents_of(state, path)


def read_file(path: Path) -> Contents:
    """Read one file completely, into new memory.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is truncated, damaged, or not written by `save`.
    """
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, and `save` writes a file to a path with a suffix"
        )
    with path.open("rb") as file:  # opened once, since a writer may replace it between two reads
        digest = check_seal(file, path)
        file.seek(0)
        try:
            state: object = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling foreign bytes raises errors of many classes
            raise CheckpointError(
                f"{path} is not a checkpoint: it is another kind of file, or contains objects that "
                "`save` does not write"
            ) from error
    contents = _contents_of(state, path)
    contents.digest = digest
    return contents


def _contents_of(state: object, path: Path) -> Contents:
    """The contents in what torch.load returned.

    Raises:
        CheckpointError: `save` does not write such.
    """
    if not isinstance(state, dict) or not set(_OWN) <= set(state):
        found = (
            ", ".join(map(str, list(state)[:6]))
            if isinstance(state, dict)
            else f"a {type(state).__name__}"
        )
        raise CheckpointError(
            f"{path} was not written by `save`: it contains {found}. If these are weights of this "
            "model, use model.load_state_dict on them"
        )
    extra = {name: value for name, value in state.items() if name not in _OWN}
    description = read_description(state[DESCRIPTION], path)
    _check_states(state["model"], state["optimizer"], path)
    return Contents(description, state["model"], state["optimizer"], extra)


def _check_states(model: object, optimizer: object, path: Path) -> None:
    """Raise if two values are not the states of a model and an optimizer."""
    is_state = isinstance(model, dict) and all(isinstance(name, str) for name in model)
    if not is_state or not (optimizer is None or _is_optimizer_state(optimizer)):
        raise CheckpointError(
            f"the entries 'model' and 'optimizer' of {path} are not state dicts as torch's modules "
            "and optimizers make them, with names that are strings, and a dict for each parameter"
        )


def _is_optimizer_state(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    state, groups = value.get("state"), value.get("param_groups")
    if not isinstance(state, dict) or not isinstance(groups, list):
        return False
    if not all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in groups):
        return False
    params = [index for group in groups for index in group["params"]]
    return all(isinstance(i, int) and isinstance(state.get(i, {}), dict) for i in params)
