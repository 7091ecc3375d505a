"""The examples in README.md, docs/ and the docstrings of modula/ run as tests: each document in one
namespace, top to bottom.
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
    """Seed torch, and let the document write its files where they are thrown away. Small examples
    need one thread.
    """
    torch.manual_seed(0)
    namespace["_threads"] = torch.get_num_threads()
    torch.set_num_threads(1)
    namespace["_folder"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)


def finish(namespace: dict[str, Any]) -> None:
    """Put back what `start` changed."""
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
    """Under `-n`, keep the examples of one document on one worker and in order; spread all other
    tests one by one.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerPerDocument(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            document = nodeid.partition("::")[0]
            return (
                document if document.endswith(".md") or document.startswith("modula/") else nodeid
            )

    return OneWorkerPerDocument(config, log) if config.getoption("dist") == "load" else None
