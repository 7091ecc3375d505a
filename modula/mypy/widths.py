"""`Width`: a width as a program writes it, a polynomial in the names of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]
"""The names whose product a term is, in order; none for a number."""


@dataclass(frozen=True)
class Width:
    """A polynomial with whole coefficients: the sum over terms of coefficient times product.

    Args:
        terms: pairs of product and coefficient, in order, without those of coefficient 0.

    Example:
        >>> from modula.mypy.widths import Width
        >>> n = Width.named("n")
        >>> str(n * Width.number(4) + Width.number(1))
        '4*n + 1'
        >>> (n * Width.number(4)).differs(n * Width.number(3)), n.differs(Width.number(8))
        (True, False)
    """

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def number(cls, value: int) -> Width:
        """Return a width that is known."""
        return cls.of({(): value})

    @classmethod
    def named(cls, name: str) -> Width:
        """Return a width of which the name alone is known."""
        return cls.of({(name,): 1})

    @classmethod
    def of(cls, terms: Mapping[Monomial, int]) -> Width:
        """Return the polynomial of these terms."""
        return cls(tuple(sorted((names, factor) for names, factor in terms.items() if factor)))

    @property
    def value(self) -> int | None:
        """The number that it is, or None if it depends on names."""
        if not self.terms:
            return 0
        return self.terms[0][1] if self.terms[-1][0] == () else None

    def __add__(self, other: Width) -> Width:
        total = dict(self.terms)
        for names, factor in other.terms:
            total[names] = total.get(names, 0) + factor
        return Width.of(total)

    def __sub__(self, other: Width) -> Width:
        return self + other * Width.number(-1)

    def __mul__(self, other: Width) -> Width:
        product: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                names = tuple(sorted(left + right))
                product[names] = product.get(names, 0) + a * b
        return Width.of(product)

    def divided(self, divisor: int) -> Width | None:
        """Return the quotient, or None if a coefficient is not a multiple of the divisor."""
        if divisor < 1 or any(factor % divisor for _, factor in self.terms):
            return None
        return Width.of({names: factor // divisor for names, factor in self.terms})

    def differs(self, other: Width) -> bool:
        """Whether the two differ for all numbers for which both are widths, hence at least 1.

        They do if their difference is a number other than 0, or if one is a multiple of the other.
        """
        difference = (self - other).value
        if difference is not None:
            return difference != 0
        if [names for names, _ in self.terms] != [names for names, _ in other.terms]:
            return False
        ratios = {
            Fraction(mine, yours)
            for (_, mine), (_, yours) in zip(self.terms, other.terms, strict=True)
        }
        return len(ratios) == 1

    def __str__(self) -> str:
        terms = [
            "*".join([*([] if factor == 1 and names else [str(factor)]), *map(_shown, names)])
            for names, factor in reversed(self.terms)
        ]
        return " + ".join(terms).replace("+ -", "- ") or "0"


def _shown(name: str) -> str:
    """A name without the number that tells it from others of the same name."""
    return name.partition("#")[0]
