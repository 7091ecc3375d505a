"""torchvision's models beside a torch without CUDA.

A build of torchvision for CUDA does not load its compiled part there, and its Python part then
registers shapes for operators that are not declared. Its models need none of them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_LIBRARIES: list[torch.library.Library] = []
"""Declarations last as long as their library."""


def declare_operators() -> None:
    """Declare torchvision's operators if it is installed and its compiled part does not load."""
    found = find_spec("torchvision")
    if found is None or _LIBRARIES:
        return
    for folder in found.submodule_search_locations or []:
        try:
            torch.ops.load_library(Path(folder) / "_C.so")  # type: ignore[no-untyped-call] # as torch has it
        except OSError:
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call] # as torch has it
            _LIBRARIES.append(library)
            for operator in _OPERATORS:
                library.define(operator)  # type: ignore[no-untyped-call] # as torch has it
