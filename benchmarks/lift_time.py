"""Time the lift of a GPT-2 of random weights, and measure the memory that it takes.

    python -m benchmarks.lift_time                          # GPT-2 small, 124 million weights
    python -m benchmarks.lift_time --write docs/guides/lifting.md

The model is that of transformers. Memory is the largest resident size of the process up to the end
of the lift, with Python, torch and the model in it. Prints one sentence.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.docs_tables import write_between
from benchmarks.tiny_shakespeare import machine
from modula import lift

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
from trials import wrapped


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=12, help="blocks (default %(default)s)")
    parser.add_argument("--width", type=int, default=768, help="features (default %(default)s)")
    parser.add_argument("--heads", type=int, default=12, help="heads (default %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="sequences (default %(default)s)")
    parser.add_argument("--context", type=int, default=128, help="tokens (default %(default)s)")
    parser.add_argument(
        "--write", type=Path, help="write the sentence into this page, between its marks"
    )
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    options = parse(given)
    torch.manual_seed(0)
    config = GPT2Config(n_layer=options.blocks, n_embd=options.width, n_head=options.heads)
    model = GPT2LMHeadModel(config)
    ids = torch.randint(config.vocab_size, (options.batch, options.context))
    start = time.perf_counter()
    net = lift(model, input_ids=ids)
    seconds = time.perf_counter() - start
    weights = sum(p.numel() for p in net.weights.tensors)
    written = wrapped(
        f"A GPT-2 of {options.blocks} blocks and width {options.width}, {weights / 1e6:.3g} "
        f"million weights, is lifted on {options.batch} sequences of {options.context} tokens in "
        f"{seconds:.1f} seconds, and the process takes {gibibytes():.2f} GiB at most, on "
        f"{machine()}."
    )
    print(written)
    if options.write:
        write_between(options.write, "lift_time", written)


def gibibytes() -> float:
    """Return the largest resident size that this process has had."""
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    main()
