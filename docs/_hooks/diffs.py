"""Write the differences between two scripts onto the page that explains them.

    python docs/_hooks/diffs.py            # write all
    python docs/_hooks/diffs.py --check    # fail where a page shows another difference

A page marks the place by <!-- diff:NAME --> above a code block; the scripts are NAME_before and
NAME_after in docs/guides/scripts. A script for an environment of its own ends in .txt.
"""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path

GUIDES = Path(__file__).parents[1] / "guides"
PLACE = re.compile(r"(<!-- diff:(\w+) -->\n```diff\n).*?^```$", re.DOTALL | re.MULTILINE)


def difference(name: str) -> str:
    """Return the lines of the script before with those that change, as a unified diff."""
    before, after = (
        next((GUIDES / "scripts").glob(f"{name}_{when}.*")).read_text().splitlines()
        for when in ("before", "after")
    )
    lines = difflib.unified_diff(before, after, n=len(before), lineterm="")
    return "\n".join(line.rstrip() for line in list(lines)[3:])


def updated(text: str) -> str:
    """Return a page with every difference as it is now."""
    return PLACE.sub(lambda found: f"{found[1]}{difference(found[2])}\n```", text)


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing (default: write)")
    options = parser.parse_args()
    for page in sorted(GUIDES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if updated(text) != text:
            if options.check:
                raise SystemExit(f"{page} shows another difference than its scripts have")
            page.write_text(updated(text), encoding="utf-8")
            print(page)


if __name__ == "__main__":
    main()
