"""Processes that take a step together, or not at all: the votes of a two-phase commit.

Before each exchange of tensors, and once at the end of a step, every process says whether it has
failed. A process that fails says so in place of its next vote. So all learn of it at the same
vote, none is left waiting in an exchange, and each undoes its part of the step.

Source: Gray 1978, *Notes on Data Base Operating Systems*, section 5.8.3.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist

from modula.errors import StepError
from modula.optim.signals import signals_wait
from modula.sharding import exchanges

EXCHANGE, READY, END = "exchanges tensors", "has moved its weights", "ends the step"
"""What a process does at its vote."""


class Votes:
    """The votes of one process in one step.

    Args:
        group: the processes that take the step.
        device: of the tensors that the group can sum.
    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self._group, self._device = group, device
        self._is_over = False

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Make the context of an exchange, for `modula.sharding.exchanges`."""
        with signals_wait():  # an interrupt between vote and exchange would leave the others there
            self.agree(EXCHANGE)
            yield

    def agree(self, what: str) -> None:
        """Vote for going on.

        Args:
            what: this process does, which must be the same on all.

        Raises:
            StepError: another process has failed, has ended, or does something else.
        """
        with signals_wait():
            failed, alike = self._counted(what, failed=False)
            if failed or not alike:
                self._is_over = True
                raise StepError(self._cause(what))

    def refuse(self, error: BaseException) -> None:
        """Vote against the step, unless its end is known here and elsewhere."""
        with signals_wait():
            if self._is_over:
                return
            self._is_over = True
            with suppress(StepError):  # another process has ended: the cause is the error here
                self._counted("", failed=True)
                self._gathered((True, f"{type(error).__name__}: {error}"))

    def end(self, keep: Callable[[], None]) -> None:
        """Vote for keeping the step, twice.

        In the first vote processes wait for the slowest one. An interrupt that arrives meanwhile
        still undoes the step, by the second, which takes no longer than its messages. One that
        arrives then raises after the step was taken.

        Args:
            keep: makes the step final here, as it is on the others once the votes are taken.
        """
        self.agree(READY)
        with signals_wait():
            self.agree(END)
            self._is_over = True
            keep()

    def _counted(self, what: str, *, failed: bool) -> tuple[bool, bool]:
        """Whether any process has failed, and whether all do the same."""
        kind = zlib.crc32(what.encode())
        numbers = torch.tensor([int(failed), kind, -kind], device=self._device)
        try:
            dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self._group)
            any_failed, most, least = numbers.tolist()
        except RuntimeError as error:
            raise self._left_alone(error) from error
        return bool(any_failed), most == -least

    def _cause(self, what: str) -> str:
        """Why no process takes the step."""
        said = self._gathered((False, what))
        failures = [f"process {rank}: {text}" for rank, (failed, text) in said.items() if failed]
        if failures:
            return f"the step failed elsewhere, so no process has taken it; {'; '.join(failures)}"
        first, *others = said.items()
        other = next(each for each in others if each[1] != first[1])
        return (
            "the processes do not take the same step, so none has taken it: "
            f"process {first[0]} {first[1][1]}, and process {other[0]} {other[1][1]}"
        )

    def _gathered(self, said: tuple[bool, str]) -> dict[int, tuple[bool, str]]:
        """What all processes say, by rank: whether they failed, and the error or what they do."""
        ranks = dist.get_process_group_ranks(self._group)
        found = [said] * len(ranks)
        try:
            dist.all_gather_object(found, said, group=self._group)
        except RuntimeError as error:
            raise self._left_alone(error) from error
        return dict(zip(ranks, found, strict=True))

    def _left_alone(self, error: RuntimeError) -> StepError:
        self._is_over = True
        return StepError(
            "another process has ended, or does not answer, so this one does not take the step; "
            f"weights and averages are as they were: {error}"
        )


@contextmanager
def all_or_none(votes: Votes, keep: Callable[[], None]) -> Iterator[None]:
    """Leave this context without an error on all processes, or with one on all of them.

    Args:
        votes: of this process.
        keep: makes the step final here.

    Raises:
        StepError: another process failed inside, or left without having begun an exchange.
    """
    exchanges.append(votes.exchange)
    try:
        yield
        votes.end(keep)
    except BaseException as error:
        votes.refuse(error)
        raise
    finally:
        exchanges.pop()
