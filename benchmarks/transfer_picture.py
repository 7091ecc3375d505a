"""Draw the README's picture: the loss of one GPT at several widths over the learning rate.

    python -m benchmarks.transfer_picture                      # into runs/transfer/
    python -m benchmarks.transfer_picture --out docs/assets    # the README's and the site's

The numbers are those of `examples/experiments/lr_transfer.py`, read from its JSON file. Nothing is
trained. transfer.png has the systems beside one another, transfer-narrow.png one below the other,
for small screens.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

RUNS = Path(__file__).parents[1] / "docs" / "results" / "experiments" / "lr_transfer.json"
SYSTEMS = {"dualize": "modula", "muon": "torch.optim.Muon", "adamw": "torch.optim.AdamW"}
COLOURS = ["#4477aa", "#22a8c4", "#228833", "#b8a31f", "#ee6677"]
"""From the narrowest to the widest; of middle lightness, to be told apart on white and on black."""
Curves = dict[int, dict[float, float]]
"""The mean loss by width and learning rate."""


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=RUNS, help="numbers of the experiment (default %(default)s)"
    )
    parser.add_argument(
        "--depth", type=int, default=2, help="of the networks to show (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/transfer"),
        help="folder of the pictures (default %(default)s)",
    )
    return parser.parse_args(given)


def curves(path: Path, system: str, depth: int) -> Curves:
    """Return the mean loss over seeds of the GPTs of this depth, by width and rate."""
    losses: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in json.loads(path.read_text())["runs"]:
        trial, loss = run["trial"], run["result"]["loss"]
        if (trial["network"], trial["system"], trial["depth"]) == ("gpt", system, depth):
            losses[trial["width"]][trial["lr"]].append(float("inf") if loss is None else loss)
    return {
        width: {lr: statistics.mean(of_seeds) for lr, of_seeds in sorted(of_width.items())}
        for width, of_width in sorted(losses.items())
    }


def draw(axes: Axes, found: Curves, title: str) -> None:
    """Draw a line for each width, with a dot at its best rate."""
    colours = LinearSegmentedColormap.from_list("widths", COLOURS)
    for place, (width, losses) in enumerate(found.items()):
        colour = colours(place / max(1, len(found) - 1))
        axes.plot(list(losses), list(losses.values()), color=colour, label=str(width))
        best = min(losses, key=lambda lr: losses[lr])
        axes.plot(best, losses[best], "o", color=colour, markersize=8)
    axes.set_xscale("log", base=2)
    axes.set(title=title, xlabel="learning rate", ylim=(2.15, 2.85))
    axes.grid(alpha=0.25)


def picture(found: dict[str, Curves], path: Path, *, across: bool) -> None:
    """Save the panels of all systems, beside one another or one below the other."""
    from matplotlib import pyplot as plt

    count = len(found)
    figure, panels = plt.subplots(
        1 if across else count,
        count if across else 1,
        figsize=(10, 3.4) if across else (4.2, 8.4),
        sharey=True,
        layout="constrained",
    )
    for axes, (system, of_system) in zip(panels, found.items(), strict=True):
        draw(axes, of_system, SYSTEMS[system])
        if axes is panels[0] or not across:
            axes.set_ylabel("validation loss")
    panels[0].legend(title="width", loc="upper right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(given: Sequence[str] | None = None) -> None:
    options = parse(given)
    matplotlib.use("Agg")
    matplotlib.rcParams["font.size"] = 11
    found = {system: curves(options.runs, system, options.depth) for system in SYSTEMS}
    options.out.mkdir(parents=True, exist_ok=True)
    picture(found, options.out / "transfer.png", across=True)
    picture(found, options.out / "transfer-narrow.png", across=False)
    print(f"transfer.png and transfer-narrow.png in {options.out}/")


if __name__ == "__main__":
    main()
