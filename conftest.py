"""Run the examples of README.md, docs/ and the docstrings of modula/ as tests.

Each document has one namespace and runs from top to bottom.
"""

import os
import tempfile
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path
from typing import Any

import pytest
import torch
from sybil import Sybil
from sybil.evaluators.doctest import NUMBER
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.markdown import PythonCodeBlockParser

# NUMBER compares decimal fractions to the precision that is written.
OPTIONS = ELLIPSIS | NORMALIZE_WHITESPACE | NUMBER
HOME = Path(__file__).parent


def start(namespace: dict[str, Any]) -> None:
    """Seed torch, take one thread, and change to a temporary folder for the document's files."""
    torch.manual_seed(0)
    namespace["_threads"] = torch.get_num_threads()
    torch.set_num_threads(1)
    namespace["_folder"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)


def finish(namespace: dict[str, Any]) -> None:
    """Undo `start`."""
    torch.set_num_threads(namespace["_threads"])
    os.chdir(HOME)
    namespace["_folder"].cleanup()


pages = Sybil(
    [PythonCodeBlockParser(doctest_optionflags=OPTIONS)],
    patterns=["README.md", "docs/**/*.md", "docs/*.md"],
    setup=start,
    teardown=finish,
)
docstrings = Sybil(
    [DocTestParser(optionflags=OPTIONS)],
    patterns=["modula/**/*.py", "modula/*.py"],
    setup=start,
    teardown=finish,
)

pytest_collect_file = (pages + docstrings).pytest()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `-n`, run the examples of one document in order on one worker; spread other tests."""
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerPerDocument(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            document = nodeid.partition("::")[0]
            return (
                document if document.endswith(".md") or document.startswith("modula/") else nodeid
            )

    return OneWorkerPerDocument(config, log) if config.getoption("dist") == "load" else None
