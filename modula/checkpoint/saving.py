"""Saving and loading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from modula.checkpoint.contents import Contents, contents_of, mapped, refuse_meta
from modula.checkpoint.folder import Folder
from modula.checkpoint.match import check_match
from modula.checkpoint.processes import together
from modula.checkpoint.safetensors_file import SafetensorsFile
from modula.checkpoint.torch_file import TorchFile
from modula.errors import CheckpointError
from modula.sharding import is_sharded

AnyPath: TypeAlias = "str | os.PathLike[str]"


class Format(Protocol):
    """One way to lay a checkpoint down. Every process calls each of these."""

    def check(self, contents: Contents) -> None:
        """Refuse what this format cannot hold."""
        ...

    def write(
        self,
        path: Path,
        contents: Contents,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        """Write all of it or nothing."""
        ...

    def read(self, path: Path) -> Contents:
        """Read enough to tell whether it belongs to a model: tensors that `fill` would read are on
        the meta device.
        """
        ...

    def fill(
        self,
        path: Path,
        contents: Contents,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents:
        """The contents with all tensors that the model and the optimizer take, in memory of their
        own.
        """
        ...


def format_of(path: Path) -> Format:
    """The format that a path's suffix stands for."""
    if path.suffix == ".safetensors":
        return SafetensorsFile()
    return TorchFile() if path.suffix else Folder()


def save(
    path: AnyPath, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **extra: object
) -> None:
    """Write a checkpoint, all of it or nothing.

    The path decides how: a folder where it has no suffix ("runs/gpt/last"), by
    torch.distributed.checkpoint, each process its part; the weights alone for ".safetensors"; for
    every other suffix (".pt") one file of torch.save. What was at the path is replaced once the new
    checkpoint is on the disk, in one step, so that a run that is killed at any moment leaves the
    old one or the new one.

    Of several processes, all must call this together. For a file the first writes.

    Args:
        path: where to.
        model: the model itself, not what wraps it.
        optimizer: a SteepestDescent or any other of torch's.
        extra: what else the run needs to go on, by name: numbers, strings, tensors, lists and dicts
            of them. So `schedule=schedule.state_dict()`, `batches=generator.get_state()`,
            `step=step`. Of several processes' the first one's is kept.

    Raises:
        CheckpointError: something cannot be saved, or not in this format. What was at the path is
            untouched.
        OSError: the disk is full, or the like. What was at the path is untouched.
        ImportError: ".safetensors" without the package safetensors.

    Example:
        >>> from modula import Linear, ReLU, SteepestDescent, checkpoint
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> optimizer = SteepestDescent(model, lr=0.1)
        >>> checkpoint.save("last.pt", model, optimizer, step=1000)
        >>> checkpoint.load("last.pt", model, optimizer)
        {'step': 1000}
    """
    path = Path(path)
    form = format_of(path)

    def check() -> Contents:
        contents = contents_of(model, optimizer, extra)
        form.check(contents)
        return contents

    form.write(path, together(check), model, optimizer)


def load(
    path: AnyPath, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, object]:
    """Take weights, and an optimizer's state, over from a checkpoint.

    Both go to the dtypes and devices that the model has. All of the checkpoint is read and compared
    with the model before anything of the model is overwritten. It may have been saved by more or
    fewer processes, sharded in another way or not at all. Of several processes, all must call this
    together.

    Args:
        path: as it was saved.
        model: one that is composed like the one that was saved.
        optimizer: of the same kind as the one that was saved. Without it only the weights are taken
            over.

    Returns:
        What was saved as `extra`, on the CPU.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: it is cut short, damaged, not written by `save`, or of another model or
            optimizer. Nothing is changed.
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
    path = Path(path)
    form = format_of(path)

    def read() -> Contents:
        refuse_meta(model)
        contents = form.read(path)
        check_match(contents, model, optimizer)
        return contents

    contents = together(read)
    filled = together(lambda: form.fill(path, contents, model, optimizer))
    placed = mapped(filled, model, optimizer, _placed_like)
    if optimizer is not None and placed.optimizer is not None:
        try:
            # first, because it may have an objection of its own
            optimizer.load_state_dict(placed.optimizer)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
    model.load_state_dict(placed.model)
    return placed.extra


def _placed_like(name: str, t: Tensor, own: Tensor) -> Tensor:
    """The parts of a whole tensor that the processes hold of their own; anything else as it is."""
    if not is_sharded(own) or is_sharded(t):
        return t
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(t.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
