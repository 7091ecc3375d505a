"""Functions whose bodies mypy rejects with the plugin, before any call; a call raises."""

from collections.abc import Callable

from modula import RMS, Bias, Concat, Identity, Linear, Module, ReLU, SplitIntoHeads


class Config:
    """Widths of a network."""

    def __init__(self, d: int) -> None:
        self.d = d


class Shape:
    """Widths that nothing changes."""

    def __init__(self, features: int) -> None:
        self.features = features


def first(n: int) -> Module[RMS, RMS]:
    return Linear(n, 4 * n) @ Linear(3 * n, n)  # E static: 4n is not 3n


def second(n: int) -> Module[RMS, RMS]:
    hidden = 4 * n
    up = ReLU() @ Linear(hidden, n)
    return Linear(n, n) @ up  # E static: n is not 4n


def third(n: int, m: int) -> Module[RMS, RMS]:
    return Linear(n, m + 1) @ Linear(m, n)  # E static: m + 1 is not m


def fourth(n: int) -> Module[RMS, RMS]:
    return Identity() + Linear(2 * n, n)  # E static: a residual keeps the width


def fifth(n: int) -> Module[RMS, RMS]:
    return Linear(n, 3 * n) @ Concat() @ (Linear(n, n), Linear(n, n))  # E static: 3n is not 2n


def sixth(shape: Shape) -> Module[RMS, RMS]:
    return Bias(2 * shape.features) @ Linear(shape.features, shape.features)  # E static: 2d, d


WRONG: list[Callable[[], object]] = [
    lambda: first(4),
    lambda: second(4),
    lambda: third(4, 3),
    lambda: fourth(4),
    lambda: fifth(4),
    lambda: sixth(Shape(4)),
]


# What cannot be known before a call is not rejected.
def may_fit(n: int, m: int) -> Module[RMS, RMS]:
    return Linear(n, n) @ Linear(m, n)


def may_divide(n: int, heads: int) -> object:
    return SplitIntoHeads(heads) @ Linear(n, n) if n % heads == 0 else SplitIntoHeads(1)


def may_be_zero(n: int, more: int) -> Module[RMS, RMS]:
    return Linear(n, n) @ Linear(n + more, n)


def half(n: int) -> Module[RMS, RMS]:
    return Linear(n, 2 * (n // 2)) @ Linear(n, n)


def bound_twice(n: int) -> Module[RMS, RMS]:
    width = n
    inner = Linear(width, 3)
    width = 2 * n
    return Linear(3, width) @ ReLU() @ Linear(width, n) @ inner


def rebound_parameter(n: int) -> Module[RMS, RMS]:
    inner = Linear(n, 3)
    n = 8
    return Linear(3, n) @ ReLU() @ Linear(n, 4) @ inner


def in_a_loop(widths: list[int]) -> Module[RMS, RMS]:
    network: Module[RMS, RMS] = Linear(widths[0], 3)
    before = widths[0]
    for width in widths[1:]:
        network = Linear(width, before) @ ReLU() @ network
        before = width
    return network


def walrus(n: int) -> Module[RMS, RMS]:
    inner = Linear((w := n), 3)
    return Linear((w := w + 1), n) @ inner


def chosen(wide: bool) -> Module[RMS, RMS]:
    inner = Linear(8 if wide else 4, 3)
    return Linear(3, 8 if wide else 4) @ inner


def branches(wide: bool) -> Module[RMS, RMS]:
    inner = Linear(8, 3) if wide else Linear(4, 3)
    return (Linear(3, 8) if wide else Linear(3, 4)) @ inner


def of_list(layers: list[Module[RMS, RMS]]) -> Module[RMS, RMS]:
    return layers[1] @ layers[0]


def unpacked(widths: tuple[int, int]) -> Module[RMS, RMS]:
    out, into = widths
    return Linear(3, out) @ Linear(*widths) @ Linear(into, 3)


def matched(size: int | str) -> Module[RMS, RMS]:
    match size:
        case int(n):
            return Linear(n, 3)
        case n:
            return Linear(len(n), 3)


def changed(config: Config) -> Module[RMS, RMS]:
    inner = Linear(config.d, 3)
    double(config)
    return Linear(3, 8) @ inner


def double(config: Config) -> None:
    config.d = 2 * config.d


def power_of_number(n: int) -> Module[RMS, RMS]:
    squared: int = 2**2  # mypy itself infers the type of this power
    return Linear(squared * n, 4 * n)


class Tower:
    """A network of several modules, one of which another module replaces."""

    def __init__(self, d: int) -> None:
        self.body: Module[RMS, RMS] = Linear(d, 3)
        self.body = Linear(2 * d, d) @ self.body

    def network(self, d: int) -> Module[RMS, RMS]:
        return Linear(3, 2 * d) @ self.body


RIGHT: list[Callable[[], object]] = [
    lambda: may_fit(4, 4),
    lambda: may_divide(4, 2),
    lambda: may_be_zero(4, 0),
    lambda: half(4),
    lambda: bound_twice(4),
    lambda: rebound_parameter(4),
    lambda: in_a_loop([4, 5, 6]),
    lambda: walrus(3),
    lambda: chosen(True),
    lambda: branches(False),
    lambda: of_list([Linear(4, 3), Linear(5, 4)]),
    lambda: unpacked((4, 5)),
    lambda: matched(4),
    lambda: changed(Config(8)),
    lambda: power_of_number(4),
    lambda: Tower(4).network(4),
]
