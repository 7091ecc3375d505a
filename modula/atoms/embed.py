"""`Embed`: a table of vectors, one for each id."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Acts, Claim
from modula.geometry import Vectors
from modula.norms import RMS, OneHot
from modula.tensors import check_tensor


class Embed(Atom[OneHot, RMS]):
    """ids ↦ the rows of a table of shape [num_embed, d_embed] with these numbers.

    Sensitivity 1, radius R: proved, by the definition of the operator norm. The rows of the table
    are the columns of a map OneHot → RMS, and its norm is the largest RMS of a row.

    Args:
        d_embed: the width of the vectors.
        num_embed: the number of ids, 0 to num_embed − 1.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import Embed
        >>> Embed(128, 65)(torch.tensor([[3, 1, 4]])).shape
        torch.Size([1, 3, 128])

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    claim: Claim = "proved"
    acts: ClassVar[Acts] = "table"

    def __init__(self, d_embed: int, num_embed: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__(
            (num_embed, d_embed), Vectors(RMS), fan_out=d_embed, fan_in=num_embed, **options
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Return the row of each id: integers [...] -> [..., d_embed].

        Raises:
            TypeError: the ids are not a tensor of int32 or int64.
            IndexError: an id is out of range. On a GPU the device checks it, and fails with an
                assertion of its own.
        """
        check_tensor(self, ids)
        if ids.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{self!r} takes token ids of dtype int32 or int64, got {ids.dtype}")
        if not ids.is_cpu or torch.compiler.is_compiling():
            return F.embedding(ids, self.weight)
        try:
            return F.embedding(ids, self.weight)
        except IndexError:
            num_embed = self.weight.shape[0]
            low, high = int(ids.min()), int(ids.max())
            raise IndexError(
                f"{self!r} takes ids from 0 to {num_embed - 1}, got ids from {low} to {high}"
            ) from None

    def extra_repr(self) -> str:
        num_embed, d_embed = self.weight.shape
        return f"{d_embed}, {num_embed}"
