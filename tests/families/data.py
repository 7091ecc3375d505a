"""Small images in the format of Fashion-MNIST."""

import gzip
from pathlib import Path

import numpy as np


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write bytes in the IDX format, compressed if the name ends in .gz."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_dataset(folder: Path, size: int = 8, count: int = 60, suffix: str = ".gz") -> None:
    """Write images of two classes, dark and bright, to train on and to test on."""
    random = np.random.default_rng(0)
    for part in ("train", "t10k"):
        labels = np.arange(count) % 2
        noise = random.integers(0, 100, (count, size, size))
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", noise + 150 * labels[:, None, None])
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
