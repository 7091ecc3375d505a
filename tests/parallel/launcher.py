"""Start several processes by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parent.parent.parent
BROKEN_CONNECTION = "gloo/transport"
"""Stands in the errors of gloo when the operating system did not deliver in time."""


def torchrun(
    processes: int, *command: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a script, or -m and a module, on so many processes of one thread each; once more if a
    connection broke.

    Connections break on a machine with more to do than cores, which says nothing about what is run.
    """
    done = _once(processes, command, timeout)
    return (
        _once(processes, command, timeout)
        if done.returncode and BROKEN_CONNECTION in done.stdout
        else done
    )


def _once(
    processes: int, command: tuple[str, ...], timeout: float
) -> subprocess.CompletedProcess[str]:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    return subprocess.run(
        [*launcher, *command],
        cwd=HOME,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
