"""Run every check on every process, under torchrun. Each writes one line of JSON into a folder.

The first failure ends the run, since afterwards the processes may be at different checks.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.parallel.checks import checks


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch")
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    with (folder / f"{dist.get_rank()}.jsonl").open("w") as report:
        for name, check in checks(dist.get_world_size()).items():
            torch.manual_seed(0)
            try:
                check()
            except BaseException:
                report.write(json.dumps({"check": name, "error": traceback.format_exc()}) + "\n")
                raise
            report.write(json.dumps({"check": name, "error": None}) + "\n")
            report.flush()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
