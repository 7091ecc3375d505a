"""A lifted network on several processes is the network on one."""

from __future__ import annotations

import pytest
import torch.distributed

from tests.parallel.launcher import torchrun

pytest.importorskip("transformers")

CHECKS = 13


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize("processes", [2, 4])
def test_lifting_before_and_after_sharding(processes: int) -> None:
    done = torchrun(processes, "-m", "tests.lift.worker")
    found = [line for line in done.stdout.splitlines() if line.startswith(("ok:", "WRONG:"))]
    assert done.returncode == 0, done.stdout[-3000:]
    assert not [line for line in found if line.startswith("WRONG")]
    assert len(found) == CHECKS
