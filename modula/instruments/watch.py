"""`watch`: instruments recorded every n steps of a training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from torch import Tensor

from modula.instruments.alignment import alignment
from modula.instruments.feature_learning import feature_learning
from modula.instruments.log import Log, Sink, open_log
from modula.instruments.movement import movement
from modula.instruments.radii import radii
from modula.instruments.report import canvas, caption, shades
from modula.instruments.sensitivity import sensitivity
from modula.instruments.spectra import spectra
from modula.instruments.well_normed import well_normed
from modula.network import Network
from modula.values import Value
from modula.vector import Gradient, Update, Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """One step of the loop, before the weights move, as a recorder sees it."""

    model: Network
    step: int
    x: Value | None
    gradient: Gradient | None
    update: Update | None

    before: Weights | None
    """The weights at the last record; None at the first."""


Recorder: TypeAlias = Callable[[Moment], Mapping[str, float]]
"""A function that measures something at one step, and returns numbers by name."""


def _norm(moment: Moment) -> dict[str, float]:
    return {"norm/update": float(moment.model.norm(_given(moment.update, "update")))}


def _dual_norm(moment: Moment) -> dict[str, float]:
    return {
        "dual_norm/gradient": float(moment.model.dual_norm(_given(moment.gradient, "gradient")))
    }


def _spectra_of_gradient(moment: Moment) -> dict[str, float]:
    return spectra(_given(moment.gradient, "gradient")).scalars()


def _spectra_of_update(moment: Moment) -> dict[str, float]:
    return spectra(_given(moment.update, "update")).scalars()


def _spectra_of_weights(moment: Moment) -> dict[str, float]:
    return spectra(moment.model.weights).scalars()


def _alignment(moment: Moment) -> dict[str, float]:
    return alignment(moment.model, _given(moment.x, "x"), _given(moment.update, "update")).scalars()


def _feature_learning(moment: Moment) -> dict[str, float]:
    return feature_learning(
        moment.model, _given(moment.update, "update"), _given(moment.x, "x")
    ).scalars()


def _movement(moment: Moment) -> dict[str, float]:
    return {} if moment.before is None else movement(moment.before, moment.model.weights).scalars()


def _sensitivity(moment: Moment) -> dict[str, float]:
    return sensitivity(moment.model, _given(moment.x, "x")).scalars()


def _radii(moment: Moment) -> dict[str, float]:
    return radii(moment.model, _given(moment.x, "x")).scalars()


def _well_normed(moment: Moment) -> dict[str, float]:
    return well_normed(moment.model, _given(moment.x, "x")).scalars()


def _first(x: Value, rows: int | None) -> Value:
    return x[:rows] if isinstance(x, Tensor) else tuple([_first(part, rows) for part in x])


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(
            f"an instrument that is recorded needs {name}: pass it, as in watcher.step(x, "
            "gradient=gradient, update=update), or leave the instrument out of `record`"
        )
    return value


RECORDERS: dict[str, Recorder] = {
    "norm": _norm,
    "dual_norm": _dual_norm,
    "alignment": _alignment,
    "spectra/gradient": _spectra_of_gradient,
    "spectra/update": _spectra_of_update,
    "spectra/weights": _spectra_of_weights,
    "movement": _movement,
    "feature_learning": _feature_learning,
    "sensitivity": _sensitivity,
    "radii": _radii,
    "well_normed": _well_normed,
}
"""The recorders that have names."""


class Watch:
    """A watch on a training loop, which `watch` makes.

    Close it at the end, or use it in a `with` statement.
    """

    def __init__(
        self,
        model: Network,
        every: int,
        sink: Sink,
        recorders: Sequence[Recorder],
        rows: int | None,
        start: int,
    ) -> None:
        self.model: Network = model
        self.every: int = every
        self.recorders: Sequence[Recorder] = recorders
        self.rows: int | None = rows
        self.next_step: int = start
        self.history: list[tuple[int, dict[str, float]]] = []
        self._sink = sink
        self._before: Weights | None = None

    @property
    def due(self) -> bool:
        """Whether the next call of `step` records.

        A loop that has to prepare something for `step` needs to do so only then.
        """
        return self.next_step % self.every == 0

    def step(
        self,
        x: Value | None = None,
        *,
        gradient: Gradient | None = None,
        update: Update | None = None,
        **scalars: float | Tensor,
    ) -> dict[str, float] | None:
        """Count one step of the loop, and record it if it is due.

        Call it before the update is subtracted from the weights.

        Args:
            x: the input of the step, of which the first `rows` are measured.
            gradient: of the loss.
            update: the update that is about to be subtracted.
            scalars: more numbers to be written, such as `loss=loss`.

        Returns:
            The numbers that were recorded, by name; None if the step was not due.

        Raises:
            ValueError: something is recorded that needs `x` or `update`, and it was not passed.
        """
        step, due = self.next_step, self.due
        self.next_step += 1
        if not due:
            return None
        moment = Moment(
            self.model,
            step,
            None if x is None else _first(x, self.rows),
            gradient,
            update,
            self._before,
        )
        numbers = {
            name: float(value.detach() if isinstance(value, Tensor) else value)
            for name, value in scalars.items()
        }
        for recorder in self.recorders:
            numbers |= recorder(moment)
        if _movement in self.recorders:
            self._before = self.model.weights.clone()
        self.history.append((step, numbers))
        self._sink.write(step, numbers)
        return numbers

    def plot(self, pattern: str = "*", axes: Axes | None = None) -> Axes:
        """Draw the recorded numbers over the steps.

        Args:
            pattern: of the numbers' names, such as "alignment/update/*".
            axes: to draw on; None makes a new figure.

        Raises:
            ValueError: no number that was recorded fits the pattern.
            ImportError: matplotlib is not installed.
        """
        names = list(
            dict.fromkeys(
                [name for _, numbers in self.history for name in numbers if fnmatch(name, pattern)]
            )
        )
        if not names:
            recorded = sorted(
                {name.partition("/")[0] for _, numbers in self.history for name in numbers}
            )
            raise ValueError(
                f"nothing that was recorded fits {pattern!r}; there are "
                f"{', '.join(recorded) or 'no numbers'}"
            )
        axes = canvas(axes)
        few = len(names) <= 9
        for i, (name, shade) in enumerate(zip(names, shades(len(names)), strict=True)):
            points = [(step, numbers[name]) for step, numbers in self.history if name in numbers]
            color = f"C{i}" if few else shade
            axes.plot(
                [step for step, _ in points],
                [value for _, value in points],
                ".-",
                color=color,
                label=name if few else None,
            )
        axes.set(xlabel="step")
        caption(
            axes,
            pattern if few else f"{pattern}, dark to light in the flow of data",
            legend=few,
        )
        return axes

    def close(self) -> None:
        """Close the log."""
        self._sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def watch(
    model: Network,
    every: int = 100,
    log: Log = "watch.csv",
    *,
    record: Sequence[str | Recorder] = ("norm", "alignment", "spectra/gradient", "movement"),
    rows: int | None = 4,
    start: int = 0,
) -> Watch:
    """Record instruments every n steps of a training loop.

    The loop calls `step` on the returned watch, once a step, before the weights move. Measuring
    draws no random numbers from the run and changes nothing in it. The default `record` costs less
    than 3% of a small GPT's training at n = 100, in time of one core (`python -m
    benchmarks.watch`); "radii" costs one forward pass, "feature_learning" one for each weight,
    "sensitivity" and "well_normed" hundreds: give those a larger n.

    Args:
        model: the network that is trained.
        every: n; the first step is recorded.
        log: a path that ends in ".csv", for a table of step, name and value; any other path, for a
            folder of TensorBoard's; an object with `add_scalar`, such as a SummaryWriter; or a
            function of the step and the numbers by name.
        record: names among "norm" (of the update), "dual_norm" (of the gradient), "alignment",
            "spectra/gradient", "spectra/update", "spectra/weights", "movement",
            "feature_learning", "sensitivity", "radii" and "well_normed", and functions of a
            `Moment` that return numbers by name.
        rows: how many rows of the input are measured; None takes all.
        start: the number of the first step, for a run that goes on. Records of the log from that
            step on are replaced.

    Raises:
        ValueError: `every` or `rows` below 1, a negative `start`, an unknown name in `record`, or
            a CSV to go on with that is another file than a log.
        ImportError: TensorBoard is asked for and not installed.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.instruments import watch
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> x = torch.randn(16, 4)
        >>> with watch(model, every=2, log="run.csv") as watcher:
        ...     for step in range(4):
        ...         loss = model(x).square().mean()
        ...         gradient = model.gradient(loss)
        ...         update = model.dualize(gradient, target_norm=0.1)
        ...         _ = watcher.step(x, gradient=gradient, update=update, loss=loss)
        ...         model.weights -= update
        >>> print(open("run.csv").read()[:15].strip())
        step,name,value
    """
    if every < 1 or start < 0 or (rows is not None and rows < 1):
        raise ValueError(
            "watch records every n steps, n at least 1, on at least 1 row, from a step that is not "
            f"negative; got every={every}, rows={rows}, start={start}"
        )
    unknown = [name for name in record if isinstance(name, str) and name not in RECORDERS]
    if unknown:
        raise ValueError(
            f"watch cannot record {unknown[0]!r}: it knows {', '.join(RECORDERS)}, and takes "
            "functions of a Moment"
        )
    recorders = [RECORDERS[one] if isinstance(one, str) else one for one in record]
    return Watch(model, every, open_log(log, start), recorders, rows, start)
