"""The number format in which a device multiplies matrices fastest."""

from __future__ import annotations

import torch

_CPU_HAS_BFLOAT16: bool = (
    torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
)
"""Asked once, when modula is imported: torch.compile does not look into torch.cpu."""


def low_precision(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit format that the device multiplies faster than float32, or None.

    float16 rounds 8 times finer than bfloat16 and is taken where it is as fast: on GPUs from Volta
    on, the oldest that this PyTorch supports. The iterations keep all numbers within its range.
    """
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and _CPU_HAS_BFLOAT16 else None
