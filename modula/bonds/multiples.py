"""The spaces of bonds that move pixels into channels or features, or back."""

from __future__ import annotations

from modula.errors import MismatchError
from modula.norms import Norm
from modula.spaces import AnySpace, Space, meet


def meet_multiple(
    narrow: AnySpace, wide: AnySpace, factor: int, norms: tuple[type[Norm], type[Norm]]
) -> tuple[AnySpace, AnySpace]:
    """Return two spaces the second of which is `factor` times as wide as the first.

    Args:
        narrow, wide: the two spaces, as far as they are known.
        factor: the ratio of their widths.
        norms: the norm types of both.

    Raises:
        MismatchError: the widths do not have that ratio.

    Example:
        >>> from modula import RMS, ChannelRMS
        >>> from modula.bonds.multiples import meet_multiple
        >>> from modula.spaces import Space
        >>> narrow, wide = meet_multiple(Space(ChannelRMS), Space(RMS, 12), 4, (ChannelRMS, RMS))
        >>> str(narrow)
        'ChannelRMS(3)'
    """
    if isinstance(narrow, Space) and narrow.width is not None:
        wide = meet(wide, Space(norms[1], factor * narrow.width))
    elif isinstance(wide, Space) and wide.width is not None:
        if wide.width % factor:
            raise MismatchError(f"a width of {wide.width} is not a multiple of {factor}")
        narrow = meet(narrow, Space(norms[0], wide.width // factor))
    return narrow, wide
