"""Start several processes by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parent.parent.parent
BROKEN_CONNECTION = "gloo/transport"
"""Part of gloo's errors when the operating system did not deliver in time."""


def torchrun(
    processes: int, *command: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a script, or -m and a module, on several processes of one thread each.

    Run it once more if a connection broke, as happens on a machine that is busy with other work.
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
