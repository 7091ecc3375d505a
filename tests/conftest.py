"""Settings and fixtures of the suite: one thread, seeds, hypothesis without deadlines."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, settings

EXAMPLES = Path(__file__).parent.parent / "examples"

torch.set_num_threads(1)

settings.register_profile(
    "default", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same weights in a test whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the examples import one another, as they do when they run as scripts."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(EXAMPLES / "experiments"))
    monkeypatch.syspath_prepend(str(EXAMPLES / "families"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of five words, whose spelling a model learns in a few steps."""
    words = random.Random(0).choices(["dual", "norm", "mass", "atom", "bond"], k=3000)
    path = tmp_path_factory.mktemp("data") / "words.txt"
    path.write_text(" ".join(words))
    return path


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
