"""The weights alone in a safetensors file, which other libraries and languages read.

It needs the package safetensors.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from modula.atomic import write_whole
from modula.checkpoint.contents import Contents
from modula.checkpoint.description import read_description
from modula.checkpoint.processes import is_first, together
from modula.checkpoint.torch_file import DESCRIPTION, refuse_sharded
from modula.errors import CheckpointError

EXTRA = "extra"


class SafetensorsFile:
    """A file with the tensors of the model's state.

    The description and the user's additions are JSON in its metadata.
    """

    def check(self, contents: Contents) -> None:
        _check_installed()
        if contents.optimizer is not None:
            raise CheckpointError(
                "a .safetensors file contains weights alone: leave the optimizer out, or save to a "
                ".pt file or a folder"
            )
        refuse_sharded(contents)
        for name, value in contents.model.items():
            if not isinstance(value, Tensor):
                raise CheckpointError(
                    f"a .safetensors file contains tensors alone, and {name!r} of the model is a "
                    f"{type(value).__name__}"
                )
        for name, value in contents.extra.items():
            if not _is_json(value):
                raise CheckpointError(
                    "a .safetensors file contains numbers, strings and lists of them beside the "
                    f"weights, and {name!r} is not"
                )

    def write(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        from safetensors.torch import save

        metadata = {
            "format": "pt",
            DESCRIPTION: json.dumps(contents.description),
            EXTRA: json.dumps(contents.extra),
        }
        tensors = {name: t.detach().contiguous() for name, t in contents.model.items()}
        together(
            lambda: (
                write_whole(path, lambda file: file.write(save(tensors, metadata)))
                if is_first()
                else None
            )
        )

    def read(self, path: Path) -> Contents:
        _check_installed()
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise FileNotFoundError(path)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # it is not a dict
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is truncated, or not a safetensors file: {error}"
            ) from error
        if DESCRIPTION not in metadata:
            raise CheckpointError(
                f"{path} was not written by `save`: its metadata lacks the entry {DESCRIPTION!r}. "
                "If these are weights of this model, use safetensors.torch.load_model"
            )
        description = read_description(json.loads(metadata[DESCRIPTION]), path)
        return Contents(description, tensors, None, json.loads(metadata.get(EXTRA, "{}")))

    def fill(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents:
        return contents


def _check_installed() -> None:
    if find_spec("safetensors") is None:
        raise ImportError(
            "a .safetensors file needs the package safetensors: pip install "
            '"modula-torch[safetensors]"'
        )


def _is_json(value: object) -> bool:
    """Whether JSON returns an equal value."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
