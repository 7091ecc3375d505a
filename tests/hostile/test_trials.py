"""The hostile suite at reduced size; `make hostile` runs the whole."""

import pytest

from tests.hostile.trials import Outcome, Trial, attempt, attempt_for, collected

FEW = 4

pytestmark = pytest.mark.hostile


@pytest.mark.parametrize("trial", list(collected()), ids=lambda trial: trial.name)
def test_no_hostile_input_is_handled_wrongly(trial):
    found = attempt(trial, FEW, seed=0)
    assert not found.failures, found.error or f"{found.failures} of {found.trials} failed"


def test_every_trial_says_what_it_tries():
    assert not [trial.name for trial in collected() if not trial.run.__doc__]


def _breaks(count: int, seed: int) -> int:
    raise ZeroDivisionError(f"seed {seed}")


def test_an_exception_is_a_failure():
    found = attempt(Trial("here", _breaks), 3, seed=5)
    assert (found.trials, found.failures) == (3, 1)
    assert "ZeroDivisionError: seed 5" in found.error


def test_rounds_add_up_to_the_limit():
    seeds = []

    def counts(count: int, seed: int) -> int:
        seeds.append(seed)
        return count

    assert attempt_for(Trial("here", counts), seconds=60, limit=21) == Outcome(21, 21)
    assert seeds == [*range(len(seeds))]
