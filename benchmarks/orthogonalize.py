"""The cost of the duality maps of real models, by modula's methods and by other libraries.

    python -m benchmarks.orthogonalize                          # on this machine's CPU
    python -m benchmarks.orthogonalize --device cuda --write docs/results/engine.md
    python -m benchmarks.orthogonalize --works block --rounds 15
    python -m benchmarks.orthogonalize --accuracy --write docs/results/engine.md

All methods dualize the same gradients, in turns, in one run. The table gives, for each:

- the median time, and its ratio to that of torch.optim.Muon's iteration;
- the error of the singular values, |uᵢᵀ O vᵢ − 1| over those with σᵢ > 1e-3·σ₁: its mean and its
  maximum for matrices with normal entries, and its mean for matrices whose singular values fall to
  1e-4;
- the share of the rate at which the machine multiplies two large matrices in the precision of the
  method;
- the peak of the memory that the method allocates.

With --accuracy it measures no time but, for each method and setting, the error of the singular
values of matrices of several spectra.

heavyball and gram-newton-schulz are compared where they are installed (pip install
'modula-torch[bench]').
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from modula.polar import (
    SVD,
    InverseRoot,
    Method,
    NewtonSchulz,
    PolarExpress,
    Sketch,
    minimax_coefficients,
)
from modula.polar.batching import orthogonalize_all
from modula.polar.formats import low_precision

Shape = tuple[int, int]
Work = list[Tensor]
"""The matrices of a model, as batches of one shape each, [count, m, n]."""

BLOCK: dict[Shape, int] = {(768, 768): 4, (3072, 768): 1, (768, 3072): 1}
RESNET18: dict[Shape, int] = {
    (64, 3): 49,
    (64, 64): 4 * 9,
    (128, 64): 9 + 1,
    (128, 128): 3 * 9,
    (256, 128): 9 + 1,
    (256, 256): 3 * 9,
    (512, 256): 9 + 1,
    (512, 512): 3 * 9,
}
WORKS: dict[str, tuple[str, dict[Shape, int]]] = {
    "block": ("a block of GPT-2 small", BLOCK),
    "gpt2": ("the 12 blocks of GPT-2 small", {shape: 12 * count for shape, count in BLOCK.items()}),
    "batch": ("64 matrices of 128×128", {(128, 128): 64}),
    "resnet18": ("the convolutions of ResNet-18, tap by tap", RESNET18),
    "wide": ("one matrix of 1,600×6,400", {(1600, 6400): 1}),
}
for width in (1024, 2048, 4096):
    WORKS[f"square{width}"] = (f"one matrix of {width:,}×{width:,}", {(width, width): 1})
    WORKS[f"tall{width}"] = (f"one matrix of {4 * width:,}×{width:,}", {(4 * width, width): 1})
DEFAULT_WORKS = {"cpu": ["block", "gpt2", "batch", "resnet18", "wide"], "cuda": list(WORKS)}


@dataclass(frozen=True)
class Contender:
    """One way to orthogonalise all matrices of a work."""

    name: str
    run: Callable[[Work], Work]
    dtype: torch.dtype
    """The dtype of its products."""
    quick: bool = True
    """Whether it finishes the larger works in reasonable time."""


def one_by_one(function: Callable[[Tensor], Tensor]) -> Callable[[Work], Work]:
    """Return a function that orthogonalises matrix by matrix, like an optimizer without batches."""
    return lambda work: [torch.stack([function(matrix) for matrix in batch]) for batch in work]


def joined(method: Method | None) -> Callable[[Work], Work]:
    """Return a function that orthogonalises in joint batches, like `dualize`."""
    return lambda work: orthogonalize_all(work, method)


def muon(matrix: Tensor) -> Tensor:
    orthogonal: Tensor = _zeropower_via_newtonschulz(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    return orthogonal


def plain_polar_express(matrix: Tensor) -> Tensor:
    """Orthogonalise by the six steps of the paper on X/‖X‖_F, without any other optimisation.

    The products are computed in the precision of the matrix.
    """
    X = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    X = X / (1.01 * torch.linalg.matrix_norm(X))
    for a, b, c in minimax_coefficients(6, 1e-3):
        R = X @ X.mT
        X = torch.addmm(X, torch.addmm(R, R, R, beta=b, alpha=c), X, beta=a)
    return X.mT if matrix.shape[0] > matrix.shape[1] else X


def contenders(device: torch.device) -> list[Contender]:
    low = low_precision(device) or torch.float32
    full = torch.float32
    found = [
        Contender("torch.optim.Muon", one_by_one(muon), torch.bfloat16),
        Contender("modula, the default", joined(None), low),
        Contender('modula, accuracy="high"', joined(PolarExpress(accuracy="high")), full),
        Contender('modula, "newton_schulz"', joined(NewtonSchulz()), full, quick=False),
        Contender('modula, "inverse_root"', joined(InverseRoot()), full, quick=False),
        Contender('modula, "sketch" (rank 64)', joined(Sketch()), full),
        Contender('modula, "svd"', joined(SVD()), full, quick=False),
        Contender("Polar Express, plain", one_by_one(plain_polar_express), full, quick=False),
        Contender("torch.linalg.svd", one_by_one(svd), full, quick=False),
    ]
    return found + others(device)


def svd(matrix: Tensor) -> Tensor:
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    product: Tensor = U @ Vh
    return product


def others(device: torch.device) -> list[Contender]:
    """Return the iterations of the other libraries that are installed."""
    found = []
    try:
        utils = importlib.import_module("heavyball.utils")
        if device.type == "cpu":
            vars(utils)["compile_mode"] = None
        found.append(
            Contender(
                "heavyball",
                lambda work: [utils.zeropower_via_newtonschulz5(batch) for batch in work],
                torch.bfloat16,
            )
        )
    except ImportError:
        print("heavyball is not installed and is left out")
    if device.type != "cuda":
        print("gram-newton-schulz runs on CUDA only and is left out")
        return found
    try:
        gram_newton_schulz = importlib.import_module("gram_newton_schulz")
        iteration = gram_newton_schulz.GramNewtonSchulz()
        found.append(
            Contender(
                "gram-newton-schulz",
                lambda work: [iteration(batch) for batch in work],
                torch.float16,
            )
        )
    except ImportError:
        print("gram-newton-schulz is not installed and is left out")
    return found


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its __init_subclass__ unannotated
    """A mode that counts the most bytes allocated at once by tensors created while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.allocated = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch leaves its signature open
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (list, tuple)) else (made,):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
            weakref.finalize(storage, self.free, key, size)

    def free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.allocated -= size


def seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the FLOP/s of a product of large matrices, the best of eight runs.

    Each run multiplies two pairs of matrices at once.
    """
    width = 8192 if device.type == "cuda" else 1536
    A = torch.randn(2, width, width, device=device).to(dtype)
    return 2 * 2 * width**3 / min(seconds(lambda: A @ A, device) for _ in range(8))


def gradients(shapes: dict[Shape, int], kind: str, device: torch.device) -> Work:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.stack([matrix(shape, kind, generator) for _ in range(count)]).to(device)
        for shape, count in shapes.items()
    ]


def matrix(shape: Shape, kind: str, generator: torch.Generator) -> Tensor:
    """Return a matrix with normal entries, or with singular values that fall from 1 to 1e-4."""
    normal = torch.randn(shape, generator=generator)
    if kind == "normal":
        return normal
    rank = min(shape)
    left, right = (torch.linalg.qr(torch.randn(d, rank, generator=generator)).Q for d in shape)
    product: Tensor = (left * torch.logspace(0, -4, rank)) @ right.mT
    return product


def errors(factors: Work, bases: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return |uᵢᵀ O vᵢ − 1| for σᵢ > 1e-3·σ₁, for the first matrix of each batch."""
    found = []
    for batch, (U, S, Vh) in zip(factors, bases, strict=True):
        aligned = ((U.mT @ batch[0].double()) * Vh).sum(dim=-1)
        found.append((aligned - 1).abs()[1e-3 * S[0] < S])
    return torch.cat(found)


def decompositions(work: Work) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [torch.linalg.svd(batch[0].double(), full_matrices=False) for batch in work]


def compare(
    name: str, rounds: int, device: torch.device, rates: dict[torch.dtype, float], slow: bool
) -> list[str]:
    title, shapes = WORKS[name]
    normal, falling = gradients(shapes, "normal", device), gradients(shapes, "falling", device)
    normal_bases, falling_bases = decompositions(normal), decompositions(falling)
    runners = [c for c in contenders(device) if slow or c.quick]
    times: dict[str, list[float]] = {c.name: [] for c in runners}
    for contender in runners:
        contender.run(normal)
    for _ in tqdm(range(rounds), desc=title, leave=False):
        for contender in runners:
            times[contender.name].append(seconds(lambda run=contender.run: run(normal), device))  # type: ignore[misc]  # a default binds early
    medians = {contender: statistics.median(taken) for contender, taken in times.items()}
    rows = [
        f"**{title}**",
        "",
        (
            "| | time | ratio to Muon | error of σ | worst | falling σ | share of the product rate "
            "| peak memory |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for contender in runners:
        took = medians[contender.name]
        of_normal, of_falling = (
            errors(contender.run(normal), normal_bases),
            errors(contender.run(falling), falling_bases),
        )
        with FlopCounterMode(display=False) as counter:
            contender.run(normal)
        share = counter.get_total_flops() / took / rates[contender.dtype]
        rows.append(
            f"| {contender.name} | {1000 * took:,.1f} ms | "
            f"{took / medians['torch.optim.Muon']:.2f} | {of_normal.mean():.4f} | "
            f"{of_normal.max():.3f} | {of_falling.mean():.4f} | {share:.0%} | "
            f"{peak_memory(contender, normal, device) / 2**20:,.0f} MiB |"
        )
    return [*rows, ""]


WIDTH = 256
"""The width of the square matrices whose singular values are compared."""

CLUSTER = 7 * WIDTH // 8
"""How many singular values of the clustered spectrum are 1; the others fall to 1/1000."""

SETTINGS: dict[str, Method] = {
    "the default": PolarExpress(),
    "the default, 6 steps": PolarExpress(steps=6),
    'accuracy="high"': PolarExpress(accuracy="high"),
    '"newton_schulz"': NewtonSchulz(),
    '"newton_schulz", degree 3': NewtonSchulz(degree=3),
    '"inverse_root"': InverseRoot(),
    '"inverse_root", both sides': InverseRoot(sides="both"),
    '"sketch"': Sketch(),
    '"sketch", tolerance 0.1': Sketch(tolerance=0.1),
    '"svd"': SVD(),
}


def spectra() -> dict[str, Tensor]:
    """Return a float32 matrix for each spectrum."""
    index = torch.arange(1, WIDTH + 1, dtype=torch.float64)
    sizes = {
        "1/√i": index**-0.5,
        "1/i": index**-1,
        "exponential to 1e-4": torch.logspace(0, -4, WIDTH, dtype=torch.float64),
        "clustered": torch.cat([torch.ones(CLUSTER), torch.logspace(0, -2.999, WIDTH - CLUSTER)]),
        "rank 16": (index <= WIDTH // 16).double() / index,
    }
    generator = torch.Generator().manual_seed(0)
    made = {"normal entries": torch.randn(WIDTH, WIDTH, generator=generator)}
    for name, values in sizes.items():
        left, right = (
            torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)).Q
            for _ in range(2)
        )
        made[name] = ((left * values.double()) @ right.mT).float()
    return made


def accuracies() -> list[str]:
    """Return the table of the errors of every setting on every spectrum."""
    matrices = spectra()
    works = {name: [G[None]] for name, G in matrices.items()}
    bases = {name: decompositions(work) for name, work in works.items()}
    rows = [f"| | {' | '.join(works)} | beside rank 16 |", "|---" * (len(works) + 2) + "|"]
    for name, method in tqdm(SETTINGS.items(), leave=False):
        cells = []
        for spectrum, work in works.items():
            found = errors(orthogonalize_all(work, method), bases[spectrum])
            cells.append(f"{found.mean():.4f} / {found.max():.3f} / {(found > 0.5).sum()}")
        U, _, Vh = bases["rank 16"][0]
        rank = WIDTH // 16
        found = orthogonalize_all(works["rank 16"], method)[0][0].double()
        sides = U[:, rank:].mT @ found, found @ Vh[rank:].mT
        noise = max(torch.linalg.matrix_norm(side, ord=2) for side in sides)
        rows.append(f"| {name} | {' | '.join(cells)} | {noise:.4f} |")
    return rows


def peak_memory(contender: Contender, work: Work, device: torch.device) -> int:
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        contender.run(work)
        peak: int = torch.cuda.max_memory_allocated(device) - before
        return peak
    memory = PeakMemory()
    with memory:
        contender.run(work)
    return memory.peak


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    return (
        f"{platform.machine()} CPU with {torch.get_num_threads()} threads, PyTorch "
        f"{torch.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device",
        default="cpu",
        type=torch.device,
        help="where to measure (default %(default)s)",
    )
    parser.add_argument(
        "--works",
        nargs="+",
        choices=list(WORKS),
        help="by default those that the device runs in reasonable time",
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="measurements of each (default %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="leave out the methods that take many times as long"
    )
    parser.add_argument(
        "--write",
        type=Path,
        help="write the tables into this page, between its marks",
    )
    parser.add_argument(
        "--accuracy", action="store_true", help="measure errors on several spectra, and no time"
    )
    options = parser.parse_args()
    if options.accuracy:
        table = "\n".join(accuracies())
        print(table)
        if options.write:
            write_between(options.write, "accuracy", table)
        return

    rates = {
        dtype: product_rate(dtype, options.device)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    }
    lines = [
        f"{machine(options.device)}; products run at "
        + ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {str(d)[6:]}" for d, rate in rates.items())
        + ".",
        "",
    ]
    for name in options.works or DEFAULT_WORKS[options.device.type]:
        slow = not options.quick and (name == "block" or options.device.type == "cuda")
        lines += compare(name, options.rounds, options.device, rates, slow)
        print("\n".join(lines), flush=True)
    if options.write:
        write_between(options.write, "orthogonalize", "\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
