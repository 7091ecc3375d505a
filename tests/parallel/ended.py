"""Two processes, of which the second ends in the midst of a step: python -m tests.parallel.ended.

The arguments are the rank and a file by which the processes meet.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from modula import StepError
from modula.geometry import Spectral


def main(rank: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(meeting, 2),
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    from tests.parallel.failures import Prepared, equal, everything

    prepared = Prepared("fsdp")
    before = everything(prepared.model, prepared.optimizer)
    if rank == 1:
        with patch.object(Spectral, "dualize", lambda *_, **__: os._exit(0)):
            prepared.step()
    with pytest.raises(StepError, match="another process has ended"):
        prepared.step()
    assert equal(everything(prepared.model, prepared.optimizer), before)
    print("told, and unchanged", flush=True)
    os._exit(0)  # without the other process torch cannot take leave


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
