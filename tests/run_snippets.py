"""Run the Python blocks of a page in one namespace, with the standard library alone.

    python tests/run_snippets.py README.md

What the examples print is compared by pytest; here it matters that they run. Prints the number of
blocks, and where modula comes from.
"""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path


def run(block: str, namespace: dict[str, object]) -> None:
    """Run a block: statements, or an interactive session.

    Raises:
        AssertionError: an example that shows an error raised none.
    """
    examples = doctest.DocTestParser().get_examples(block)
    if not examples:
        exec(compile(block, "<block>", "exec"), namespace)
    for example in examples:
        try:
            exec(compile(example.source, "<example>", "single"), namespace)
        except Exception:
            if example.exc_msg is None:
                raise
        else:
            assert example.exc_msg is None, f"{example.source} raised no error"


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        run(block, namespace)
    import modula

    print(len(blocks), modula.__file__)


if __name__ == "__main__":
    main()
