"""Time a token of generation, with keys and values kept and without, as the context grows.

    python -m benchmarks.generation
    python -m benchmarks.generation --write docs/guides/attention.md

One network generates one token after contexts of several lengths, in turns, so that a busy machine
slows all of them alike. Prints the median processor times over that of the shortest context with a
cache. The last row is the part of the cached time that attention itself takes: every key and value
is read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from modula import GPT, FunctionalAttention, KeyValueCache

HEADS = 4
NAMES = ("whole pass", "cache", "cache, window of 32", "attention alone")


def contexts(longest: int) -> list[int]:
    """Return four lengths, each four times the one before."""
    return [longest // 64, longest // 16, longest // 4, longest]


@torch.no_grad()
def measure(width: int, blocks: int, longest: int, rounds: int) -> dict[str, list[float]]:
    """Return the median seconds of a token for each way, by context."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # processor time would count the waiting of others
    model, windowed = (
        GPT(65, d_embed=width, num_heads=HEADS, num_blocks=blocks, window=window)
        for window in (None, 32)
    )
    ids = torch.randint(65, (1, longest))
    times: dict[tuple[str, int], list[float]] = {}
    for _ in tqdm(range(rounds), unit="round", leave=False):
        for context in contexts(longest):
            prompt, token = ids[:, :context], ids[:, :1]
            for name, network in zip(NAMES[1:3], (model, windowed), strict=True):
                cache = KeyValueCache(network)
                cache.extend(prompt)
                cache.extend(token)  # the buffers have grown
                start = time.process_time()
                cache.extend(token)
                times.setdefault((name, context), []).append(time.process_time() - start)
            start = time.process_time()
            model(prompt)
            times.setdefault((NAMES[0], context), []).append(time.process_time() - start)
            times.setdefault((NAMES[3], context), []).append(attention(width, blocks, context))
    return {
        name: [statistics.median(times[name, context]) for context in contexts(longest)]
        for name in NAMES
    }


def attention(width: int, blocks: int, context: int) -> float:
    """Return the seconds of one query's attention to all keys, in each of the blocks."""
    query = torch.randn(1, HEADS, 1, width // HEADS)
    kept = [torch.randn(2, 1, HEADS, context, width // HEADS) for _ in range(blocks)]
    bond = FunctionalAttention()
    start = time.process_time()
    for key, value in kept:
        bond((query, key, value))
    return time.process_time() - start


def table(options: argparse.Namespace) -> str:
    found = measure(options.width, options.blocks, options.longest, options.rounds)
    unit = found["cache"][0]
    columns = " | ".join(str(context) for context in contexts(options.longest))
    return "\n".join(
        [
            f"| time of a token after a context of | {columns} |",
            f"|---|{'---|' * len(contexts(options.longest))}",
            *[
                f"| {name} | {' | '.join(f'{seconds / unit:.2f}' for seconds in row)} |"
                for name, row in found.items()
            ],
            "",
            f"GPT of {options.blocks} blocks, width {options.width}, on one core, relative to the "
            "shortest context",
            f"with a cache; medians of {options.rounds}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--width", type=int, default=256, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="number of blocks (default %(default)s)"
    )
    parser.add_argument(
        "--longest", type=int, default=2048, help="the longest context (default %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="measurements of each (default %(default)s)"
    )
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args()
    written = table(options)
    print(written)
    if options.write:
        write_between(options.write, "generation", written)


if __name__ == "__main__":
    main()
