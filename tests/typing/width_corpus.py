"""Check widths, line by line, against mypy with its plugin, the interpreter and other checkers.

    python -m tests.typing.width_corpus [--all]

mypy must reject a line that ends in `# E: reason` with the plugin `modula.mypy`, and it must raise
when it is run; `# E static: …` marks a line inside a function. No checker may reject any other
line, with or without the plugin.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.typing import corpus
from tests.typing.checkers import CHECKERS, DEVELOPED_WITH, WITH_PLUGIN
from tests.typing.installed import ROOT, Installation, wheel

WIDTHS = ROOT / "tests" / "typing" / "widths"


def rejections(names: Iterable[str], installation: Installation) -> list[str]:
    """Return the messages of checkers that know no widths. There should be none."""
    return [
        f"{name}:{line}: {message}"
        for checker in names
        for (name, line), message in CHECKERS[checker].errors(installation).items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="run all five checkers, not three")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    read = corpus.programs(WIDTHS)
    names = CHECKERS if options.all else DEVELOPED_WITH
    with tempfile.TemporaryDirectory() as folder:
        package = wheel(Path(folder, "wheel"))
        installation = Installation.make(package, WIDTHS, Path(folder, "installed"))
        result = corpus.judge(WITH_PLUGIN, installation, read)
        failures = list(result.differences())
        print(f"mypy with modula.mypy: {result}", flush=True)
        for name in names:
            found = rejections([name], installation)
            print(f"{name}: {len(found)} false", flush=True)
            failures += found
    failures += corpus.check_run(read)
    print("\n".join([*failures, f"widths: {corpus.summary(read)}; {len(failures)} differences"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
