"""Report versions, devices and fast formats, and test the installation: `python -m modula`.

The report belongs at the head of a bug report. It takes half a minute and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch.nn import functional as F

import modula
from modula import GPT, Linear, ReLU, SteepestDescent, checkpoint
from modula.polar import orthogonalize
from modula.polar.formats import low_precision
from modula.testing import check_method, check_network

PACKAGES = ("modula-torch", "einops", "safetensors", "tqdm", "matplotlib", "transformers")
FORMATS = (torch.bfloat16, torch.float16)

Check = Callable[[torch.device], str]
"""A test of one device: it raises an error, or returns what it saw."""


def main(given: Sequence[str] | None = None) -> int:
    """Print the report, and return the number of checks that failed, for the shell."""
    parser = argparse.ArgumentParser(prog="python -m modula", description=__doc__)
    parser.add_argument(
        "--no-test",
        action="store_true",
        help="print versions and devices alone (default: test too)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="test torch.compile with its default backend as well, which takes a minute "
        "(default: leave it out)",
    )
    options = parser.parse_args(given)
    print("\n".join(versions()))
    found = devices()
    for device in found:
        print(describe(device))
    if options.no_test:
        return 0
    print("\nself-test")
    checks = (*CHECKS, ("torch.compile", compiled)) if options.compile else CHECKS
    failed = sum(not passes(name, check, device) for device in found for name, check in checks)
    print("everything works" if not failed else f"{failed} checks failed")
    return failed


def versions() -> Iterator[str]:
    """Yield a line for each package, and one for the interpreter and the system."""
    yield f"modula {modula.__version__}"
    yield f"  torch {torch.__version__}"  # with the build, which its metadata may lack
    for name in PACKAGES:
        try:
            yield f"  {name} {version(name)}"
        except PackageNotFoundError:
            yield f"  {name} is not installed"
    yield f"  Python {platform.python_version()}, {platform.platform()}"
    yield f"  {os.cpu_count()} CPUs, {torch.get_num_threads()} threads for torch"


def devices() -> list[torch.device]:
    """Return the CPU and every accelerator of the machine."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if accelerator else 0
    others = [torch.device(accelerator.type, i) for i in range(count)] if accelerator else []
    return [torch.device("cpu"), *others]


def describe(device: torch.device) -> str:
    """Return the name of a device, its rate in each format, and the format of the default method.

    A rate is that of a product of two matrices of width 1,024.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    float32 = rate(device, torch.float32)
    others = ", ".join(compared(device, dtype, float32) for dtype in FORMATS)
    chosen = low_precision(device) or torch.float32
    return (
        f"  {device} {name}: float32 {float32:,.1f} GFLOP/s, {others}\n"
        f"    the default method multiplies in {str(chosen)[6:]}"
    )


def compared(device: torch.device, dtype: torch.dtype, float32: float) -> str:
    """Return the name of a format with its rate over that of float32.

    Args:
        device: where to measure.
        dtype: the format.
        float32: the rate of float32 in GFLOP/s.
    """
    name = str(dtype).removeprefix("torch.")
    try:
        return f"{name} {rate(device, dtype) / float32:.2f} times as fast"
    except (RuntimeError, TypeError):  # torch has no product in this format there
        return f"{name} not supported"


def rate(device: torch.device, dtype: torch.dtype, width: int = 1024) -> float:
    """Return the rate of a product of two square matrices in GFLOP/s, the best of five."""
    A = torch.randn(width, width, device=device).to(dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        (A @ A)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * width**3 / best / 1e9


def passes(name: str, check: Check, device: torch.device) -> bool:
    """Run a check, print how it ended, and return whether it passed."""
    start = time.perf_counter()
    try:
        seen = check(device)
    except Exception as error:  # every failure belongs in the report
        print(f"  FAILED {device} {name}: {type(error).__name__}: {error}")
        return False
    print(f"  passed {device} {name}: {seen} ({time.perf_counter() - start:.1f} s)")
    return True


def orthogonal_factors(device: torch.device) -> str:
    """Compare the default method with a singular value decomposition in float64."""
    G = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    U, _, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    error = (orthogonalize(G.to(device)).cpu().double() - U @ Vh).norm() / U.shape[1] ** 0.5
    if error > 0.05:
        raise AssertionError(f"a relative error of {error:.3f}, where 0.05 is allowed")
    return f"relative error {error:.4f}"


def laws(device: torch.device) -> str:
    """Check the laws of methods and networks, as `modula.testing` has them."""
    if device.type == "cpu":
        check_method("newton_schulz")
    check_network(
        (Linear(8, 16) @ ReLU() @ Linear(16, 8)).to(device), torch.randn(4, 8, device=device)
    )
    return "no counterexample"


def training(device: torch.device) -> str:
    """Train a small GPT to repeat one batch, and compare its loss before and after."""
    torch.manual_seed(0)
    model = GPT(11, d_embed=32, num_heads=2, num_blocks=1).to(device)
    ids = torch.randint(11, (4, 9), device=device)
    optimizer = SteepestDescent(model, lr=0.1)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimizer.step()
        losses.append(loss.item())
    if losses[-1] > 0.8 * losses[0]:
        raise AssertionError(f"the loss went from {losses[0]:.2f} to {losses[-1]:.2f}")
    return f"loss {losses[0]:.2f} to {losses[-1]:.2f}"


def checkpoints(device: torch.device) -> str:
    """Save a network, load it into another, and compare the weights."""
    saved, loaded = ((Linear(4, 8) @ ReLU() @ Linear(8, 4)).to(device) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt"
        checkpoint.save(path, saved)
        checkpoint.load(path, loaded)
    for name, weight in saved.weights.items():
        if not torch.equal(weight, loaded.weights[name]):
            raise AssertionError(f"{name} came back with other numbers")
    return "the same numbers"


def compiled(device: torch.device) -> str:
    """Compare `dualize` with itself under torch.compile."""
    model = (Linear(32, 64) @ ReLU() @ Linear(64, 48)).to(device)
    x = torch.randn(16, 48, device=device)
    grad = model.gradient(model(x).square().mean())
    expected = model.dualize(grad)
    try:
        found = torch.compile(model.dualize)(grad)
    except BackendCompilerFailed as error:
        return f"left out, since torch.compile has no working compiler here ({error.args[0][:60]}…)"
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=0.02)
    return "the same update"


CHECKS: tuple[tuple[str, Check], ...] = (
    ("orthogonal factors", orthogonal_factors),
    ("laws", laws),
    ("training", training),
    ("checkpoints", checkpoints),
)

if __name__ == "__main__":
    sys.exit(main())
