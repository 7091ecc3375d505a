"""The weights alone in a safetensors file, which other libraries and languages read. Needs the
package safetensors.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from modula.checkpoint.atomic import write_whole
from modula.checkpoint.contents import Contents, description_in
from modula.checkpoint.processes import is_first, together
from modula.checkpoint.torch_file import DESCRIPTION, refuse_sharded
from modula.errors import CheckpointError

EXTRA = "extra"


class SafetensorsFile:
    """The tensors of the model's state; the description and what the user adds as JSON in the
    file's metadata.
    """

    def check(self, contents: Contents) -> None:
        _check_installed()
        if contents.optimizer is not None:
            raise CheckpointError(
                "a .safetensors file holds weights alone: leave the optimizer out, or save to a "
                ".pt file or a folder"
            )
        refuse_sharded(contents)
        for name, value in contents.model.items():
            if not isinstance(value, Tensor):
                raise CheckpointError(
                    f"a .safetensors file holds tensors alone, and {name!r} of the model is a "
                    f"{type(value).__name__}"
                )
        for name, value in contents.extra.items():
            if not _is_json(value):
                raise CheckpointError(
                    "a .safetensors file holds numbers, strings and lists of them beside the "
                    f"weights, and {name!r} is not"
                )

    def write(
        self,
        path: Path,
        contents: Contents,
        model: nn.Module,
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
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # it is no dict
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is cut short, or is no safetensors file: {error}"
            ) from error
        if DESCRIPTION not in metadata:
            raise CheckpointError(
                f"{path} was not written by `save`: its metadata lacks the entry {DESCRIPTION!r}. "
                "If these are weights of this model, use safetensors.torch.load_model"
            )
        description = description_in(json.loads(metadata[DESCRIPTION]), path)
        return Contents(description, tensors, None, json.loads(metadata.get(EXTRA, "{}")))

    def fill(
        self,
        path: Path,
        contents: Contents,
        model: nn.Module,
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
    """Whether JSON gives back what it is given."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
