"""Saving and loading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from modula.checkpoint.agreement import facts_of
from modula.checkpoint.contents import Contents, contents_of, map_tensors, refuse_meta
from modula.checkpoint.description import Model, check_kinds, network_of, torch_module_of
from modula.checkpoint.folder import Folder
from modula.checkpoint.match import check_match, is_same_network
from modula.checkpoint.processes import check_agreement, gathered, several, together
from modula.checkpoint.safetensors_file import SafetensorsFile
from modula.checkpoint.torch_file import TorchFile
from modula.checkpoint.undoing import remember
from modula.errors import CheckpointError
from modula.network import Network
from modula.sharding import is_sharded

AnyPath: TypeAlias = "str | os.PathLike[str]"

ATTEMPTS = 20
"""To read a checkpoint that other processes replace meanwhile."""


class Format(Protocol):
    """One format of checkpoints. Every process calls each method.

    All take the path; some the contents, the model's torch module, and the optimizer or None.
    """

    def check(self, contents: Contents) -> None:
        """Raise if this format cannot store the contents."""
        ...

    def write(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        """Write all of the contents or nothing."""
        ...

    def read(self, path: Path) -> Contents:
        """Read enough to tell whether a checkpoint matches a model.

        Tensors that `fill` is to read are on the meta device.
        """
        ...

    def fill(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents | None:
        """Return the contents with all tensors read, into new memory.

        None if another save has replaced the checkpoint since `read`.
        """
        ...


def format_of(path: Path) -> Format:
    """Return the format of checkpoints at this path, by its suffix."""
    if path.suffix.lower() == ".safetensors":
        return SafetensorsFile()
    return TorchFile() if path.suffix else Folder()


def save(
    path: AnyPath, model: Model, optimizer: torch.optim.Optimizer | None = None, **extra: object
) -> None:
    """Write a checkpoint, all of it or nothing.

    The path decides the format. Without a suffix ("runs/gpt/last") it is a folder, into which every
    process writes its shards by torch.distributed.checkpoint; with ".safetensors", a file of the
    weights alone; with any other suffix (".pt"), one file of torch.save. The new checkpoint
    replaces the old one in one step, after all of it is on the disk. So a run that is killed at any
    moment leaves the old one or the new one, and of two runs that save to one path the later one's
    stays.

    If there are several processes, all must call this together, with the same path and the same
    state. A file is written by the first.

    Args:
        path: of the checkpoint.
        model: a network or any torch module; the model itself, not a wrapper around it.
        optimizer: a SteepestDescent or any other torch optimizer.
        extra: anything else the run needs to go on, by name: numbers, strings, tensors, lists and
            dicts of them. Examples are `schedule=schedule.state_dict()`,
            `batches=generator.get_state()` and `step=step`. If there are several processes, those
            of the first are saved.

    Raises:
        CheckpointError: something cannot be saved, or not in this format, or could not be loaded;
            the processes disagree about the path or the state, or one of them failed. The old
            checkpoint is unchanged.
        OSError: the disk is full, or the like. The old checkpoint is unchanged.
        TypeError: `model` or `optimizer` is of another kind.
        ImportError: ".safetensors" without the package safetensors.

    Example:
        >>> from modula import Linear, ReLU, SteepestDescent, checkpoint
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> optimizer = SteepestDescent(model, lr=0.1)
        >>> checkpoint.save("last.pt", model, optimizer, step=1000)
        >>> checkpoint.load("last.pt", model, optimizer)
        {'step': 1000}
    """
    model = network_of(model, optimizer)

    def check() -> tuple[Format, Contents, dict[str, str]]:
        check_kinds(model, optimizer)
        form, contents = format_of(Path(path)), contents_of(model, optimizer, extra)
        form.check(contents)
        facts = facts_of(contents, torch_module_of(model), optimizer) if several() else {}
        return form, contents, facts

    check_agreement({"the call": f"save, to {path}"})
    form, contents, facts = together(check)
    check_agreement(facts)
    form.write(Path(path), contents, torch_module_of(model), optimizer)


@torch.inference_mode(False)  # a state that is made in it cannot be stepped outside
def load(
    path: AnyPath, model: Model, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, object]:
    """Load weights, and an optimizer's state, from a checkpoint.

    Both are converted to the dtypes and devices of the model. All of the checkpoint is read and
    compared with the model before anything of the model is overwritten. It may have been saved by
    another number of processes, in another layout. A lifted network also takes over the
    sensitivities that the saved one had measured. If there are several processes, all must call
    this together.

    Args:
        path: of the checkpoint.
        model: a network or torch module, composed as the saved one was.
        optimizer: of the class and rule of the saved one. Without it, only the weights are loaded.

    Returns:
        The `extra` of `save`, on the CPU.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: it is truncated, damaged, not written by `save`, or of another model or
            optimizer; or a process failed. Nothing is changed, on any process.
        TypeError: `model` or `optimizer` is of another kind.
        ImportError: ".safetensors" without the package safetensors.

    Example:
        >>> import torch
        >>> from modula import Linear, checkpoint
        >>> model = Linear(4, 3)
        >>> checkpoint.save("weights.pt", model, note="orthogonal")
        >>> checkpoint.load("weights.pt", other := Linear(4, 3))
        {'note': 'orthogonal'}
        >>> torch.equal(other.weight, model.weight)
        True
        >>> checkpoint.load("weights.pt", Linear(5, 3))
        Traceback (most recent call last):
        modula.CheckpointError: the checkpoint is of another model: it is
        Linear(4, 3) in the checkpoint and Linear(5, 3) here
    """
    model = network_of(model, optimizer)
    check_agreement({"the call": f"load, from {path}"})
    for _ in range(ATTEMPTS):
        contents = _read(Path(path), model, optimizer)
        if contents is not None:
            break
    else:
        raise CheckpointError(f"{path} is replaced by other saves before all of it can be read")
    module = torch_module_of(model)
    undo = together(lambda: remember(model, optimizer))
    try:
        together(lambda: _take_over(contents, model, module, optimizer, path))
    except BaseException:
        undo()
        raise
    return contents.extra


def _read(path: Path, model: Model, optimizer: torch.optim.Optimizer | None) -> Contents | None:
    """All of a checkpoint that matches; None if it was replaced while it was read."""
    module = torch_module_of(model)

    def read() -> tuple[Format, Contents]:
        check_kinds(model, optimizer)
        refuse_meta(module)
        form = format_of(path)
        contents = form.read(path)
        check_match(contents, model, optimizer)
        return form, contents

    form, contents = together(read)
    if len(set(gathered(contents.digest))) > 1:
        return None
    filled = form.fill(path, contents, module, optimizer)
    if filled is None:
        return None
    return together(lambda: map_tensors(filled, module, optimizer, _sharded_like))


def _take_over(
    contents: Contents,
    model: Model,
    module: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    path: AnyPath,
) -> None:
    """Load the states, that of the optimizer first, which it checks once more."""
    try:
        if optimizer is not None and contents.optimizer is not None:
            optimizer.load_state_dict(contents.optimizer)
        module.load_state_dict(contents.model)
        if isinstance(model, Network) and is_same_network(contents.description, model):
            model.restore_measurements(contents.description["measurements"] or {})
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _sharded_like(name: str, t: Tensor, own: Tensor) -> Tensor:
    """A whole tensor in the layout of `own`; a sharded one unchanged."""
    if not is_sharded(own) or is_sharded(t):
        return t
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(t.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
