"""Ideas to orthogonalise faster on a CPU that were rejected, or are used in one format only.

    python -m benchmarks.rejected_ideas
    python -m benchmarks.rejected_ideas --write docs/results/engine.md

An idea and its alternative are timed in turns; the ratio of their median times is below 1 where the
idea is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from benchmarks.orthogonalize import decompositions, errors, gradients, joined, machine
from modula.polar import PolarExpress
from modula.polar.iteration import iterate
from modula.polar.preparation import copy_matrices
from modula.polar.products import add_to_diagonal, gram_in_halves, polynomial
from modula.polar.rounded_iteration import iterate_rounded, steps_with_remainder
from modula.workspace import matrices_at_once

Call = Callable[[], object]


def ratio(idea: Call, other: Call, rounds: int) -> float:
    """Return the median time of one call over that of another."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in tqdm(range(rounds + 2), unit="round", leave=False):
        for times, call in zip(taken, (idea, other), strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    ideas, others = (statistics.median(times[2:]) for times in taken)
    return ideas / others


@contextmanager
def medium_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def products(size: int, rounds: int) -> Iterator[str]:
    """Compare ways to multiply matrices with a product of bfloat16 matrices."""
    X = torch.randn(2, size, size)
    Y, Z = X.bfloat16(), X.half()
    integers = torch.randint(-128, 128, (size, size), dtype=torch.int8)
    reference = f"a product of two bfloat16 matrices {size}×{size}"

    def in_medium_precision() -> None:
        with medium_precision():
            torch.matmul(X, X.mT)

    yield line("a product in float32", reference, ratio(lambda: X @ X.mT, lambda: Y @ Y.mT, rounds))
    yield line(
        'a product in float32, precision "medium"',
        reference,
        ratio(in_medium_precision, lambda: Y @ Y.mT, rounds),
    )
    yield line("a product in float16", reference, ratio(lambda: Z @ Z.mT, lambda: Y @ Y.mT, rounds))
    yield line(
        "a product in int8",
        reference,
        ratio(lambda: torch._int_mm(integers, integers), lambda: Y[0] @ Y[0].mT, rounds),
    )
    definite = X[0] @ X[0].mT + torch.eye(size)
    yield line(
        "Cholesky decomposition and inverse in float32",
        reference,
        ratio(
            lambda: torch.cholesky_inverse(torch.linalg.cholesky(definite)),
            lambda: Y[0] @ Y[0].mT,
            rounds,
        ),
    )


def halves(sizes: Sequence[int], rounds: int) -> Iterator[str]:
    for size in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            X = torch.randn(2, size, size).to(dtype)
            found = ratio(lambda X=X: gram_in_halves(X), lambda X=X: X @ X.mT, rounds)  # type: ignore[misc] # mypy infers no default
            yield line(f"XXᵀ in halves, {size} rows, {str(dtype)[6:]}", "XXᵀ whole", found)


def polynomials(size: int, rounds: int) -> Iterator[str]:
    """Compare a polynomial of XXᵀ, computed as written, with completing the square."""
    a, b, c = PolarExpress().compositions["default"][1]
    for count, m in ((16, size // 6), (2, size)):
        X = (torch.randn(count, m, m) / m).bfloat16()

        def as_written(X: Tensor = X) -> Tensor:
            R = X @ X.mT
            return add_to_diagonal(torch.baddbmm(R, R, R, beta=b, alpha=c), a)

        found = ratio(as_written, lambda X=X: polynomial(X @ X.mT, a, b, c), rounds)  # type: ignore[misc] # mypy infers no default
        yield line(
            f"a + b·XXᵀ + c·(XXᵀ)² in bfloat16, {count} matrices {m}×{m}",
            "with the square completed",
            found,
        )


def batches(size: int, rounds: int) -> Iterator[str]:
    """Compare numbers of matrices that are orthogonalised at once."""
    X = torch.randn(16, size, size)
    method = PolarExpress()

    def in_batches_of(count: int) -> Call:
        return lambda: [method(some.clone()) for some in torch.split(X, count)]

    few = matrices_at_once(size**2, X.device)
    reference = f"in batches of {few}, what fits the caches"
    for count in (1, 4, 16):
        yield line(
            f"16 matrices {size}×{size} in batches of {count}",
            reference,
            ratio(in_batches_of(count), in_batches_of(few), rounds),
        )
    W = torch.randn(1, size, 4 * size).bfloat16()
    yield line(
        f"XXᵀ of a matrix {size}×{4 * size} in bfloat16, a batch of one",
        "by itself",
        ratio(lambda: W @ W.mT, lambda: W[0] @ W[0].mT, rounds),
    )


def transposes(size: int, rounds: int) -> Iterator[str]:
    tall = torch.randn(2, 4 * size, size)
    wide = tall.new_empty(2, size, 4 * size)

    def one_by_one() -> None:
        for target, source in zip(wide, tall, strict=True):
            target.copy_(source.mT)

    in_strips = partial(copy_matrices, wide, tall.mT)
    yield line(
        f"transposing two matrices {4 * size}×{size} at once",
        "in strips",
        ratio(lambda: wide.copy_(tall.mT), in_strips, rounds),
    )
    yield line(
        f"transposing two matrices {4 * size}×{size} one by one",
        "in strips",
        ratio(one_by_one, in_strips, rounds),
    )
    yield transposed_by_product(size, rounds)
    yield transposed_by_product(2 * size, rounds)


def transposed_by_product(size: int, rounds: int) -> str:
    P, X = torch.randn(1, size, size).bfloat16(), torch.randn(1, size, 4 * size).bfloat16()
    tall = torch.empty(1, 4 * size, size)
    return line(
        f"P·X of a matrix {size}×{4 * size} in bfloat16, then transposed in strips",
        "Xᵀ·P",
        ratio(
            lambda: copy_matrices(tall, torch.bmm(P, X).mT),
            lambda: tall.copy_(torch.bmm(X.mT, P.mT)),
            rounds,
        ),
    )


def line(idea: str, other: str, found: float) -> str:
    return f"| {idea} | {other} | {found:.2f} |"


def accuracy(size: int, steps: int) -> str:
    """Return the error of steps in bfloat16, and their noise in null spaces.

    The error is that on both kinds of matrices, and the noise that on a matrix of low rank.
    """
    found = []
    method = PolarExpress(steps=steps)
    for kind in ("normal", "falling"):
        work = gradients({(size, size): 1}, kind, torch.device("cpu"))
        found.append(f"{errors(joined(method)(work), decompositions(work)).mean():.4f}")
    low = torch.randn(1, size, 8) @ torch.randn(1, 8, size)
    low = low / low.abs().max()
    U, _, Vh = torch.linalg.svd(low)
    polynomials = method.compositions["default"]
    for factor in (
        iterate(low.clone(), polynomials),
        iterate_rounded(low.clone(), polynomials, torch.bfloat16),
    ):
        noise = U[..., 8:].mT @ factor.float() @ Vh[:, 8:].mT
        found.append(f"{torch.linalg.matrix_norm(noise, ord=2).item():.3f}")
    products = 3 * steps + steps_with_remainder(polynomials)
    return f"| {steps} | {products} | {' | '.join(found)} |"


def report(size: int, rounds: int) -> str:
    torch.manual_seed(0)
    return "\n".join(
        [
            f"{machine(torch.device('cpu'))}.",
            "",
            "| idea | compared with | ratio of times |",
            "|---|---|---|",
            *products(size, rounds),
            *halves((size // 3, size, 4 * size // 3), rounds),
            *polynomials(size, rounds),
            *batches(size, rounds),
            *transposes(size, rounds),
            "",
            (
                "| steps | products | error of σ, normal entries | falling σ | noise in null "
                "spaces, float32 | bfloat16 |"
            ),
            "|---|---|---|---|---|---|",
            *[accuracy(size, steps) for steps in (4, 5, 6)],
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size",
        type=int,
        default=768,
        help="rows and columns of the matrices (default %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=int, default=40, help="measurements of each (default %(default)s)"
    )
    parser.add_argument(
        "--write", type=Path, help="write the tables into this page, between its marks"
    )
    options = parser.parse_args()
    found = report(options.size, options.rounds)
    print(found)
    if options.write:
        write_between(options.write, "rejected_ideas", found)


if __name__ == "__main__":
    main()
