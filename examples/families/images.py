"""Load labelled images: the files of Fashion-MNIST, or a folder of pictures for each class."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
PARTS = ("train", "t10k")
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


@dataclass(frozen=True)
class Images:
    """Images [n, channel, height, width] in [−1, 1] and their labels [n]."""

    images: Tensor
    labels: Tensor

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `size` images that are drawn from the generator, with their labels."""
        chosen = torch.randint(len(self.images), (size,), generator=generator)
        return self.images[chosen], self.labels[chosen]


def load(data: Path) -> tuple[Images, Images]:
    """Return the images to train on, and those to test on.

    Args:
        data: a folder of the four IDX files of MNIST, Fashion-MNIST and their like, each as it is
            or compressed by gzip; or a folder with one folder of pictures for each class, every
            tenth of which is for the test.

    Raises:
        SystemExit: the folder has neither, or the pictures differ in size.
    """
    if _idx(data, "train-images-idx3-ubyte") is not None:
        train, test = (_read_idx_pair(data, part) for part in PARTS)
        return train, test
    classes = sorted(path for path in data.glob("*") if path.is_dir())
    if not any(_pictures(folder) for folder in classes):
        raise SystemExit(
            f"there are no images in {data}: install Debian's package dataset-fashion-mnist "
            "(apt-get install dataset-fashion-mnist), or give --data a folder that has the four "
            "files train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz), "
            "t10k-images-idx3-ubyte(.gz) and t10k-labels-idx1-ubyte(.gz), or one folder of "
            "pictures for each class"
        )
    return _read_folders(classes)


def _idx(data: Path, name: str) -> Path | None:
    candidates = (data / name, data / f"{name}.gz")
    return next((path for path in candidates if path.exists()), None)


def _read_idx_pair(data: Path, part: str) -> Images:
    pixels = _read_idx(data, f"{part}-images-idx3-ubyte")
    labels = _read_idx(data, f"{part}-labels-idx1-ubyte")
    images = rearrange(_scaled(pixels), "n height width -> n 1 height width")
    return Images(images, torch.from_numpy(labels.astype(np.int64)))


def _read_idx(data: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An array in LeCun's IDX format: four bytes, the last of which counts axes; lengths; bytes."""
    path = _idx(data, name)
    if path is None:
        raise SystemExit(f"there is no {name} and no {name}.gz in {data}, beside the other files")
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(tuple(map(int, shape)))


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def _read_folders(classes: list[Path]) -> tuple[Images, Images]:
    try:
        from PIL import Image
    except ImportError:
        raise SystemExit("pictures are read by Pillow: pip install pillow") from None
    train: list[tuple[Tensor, int]] = []
    test: list[tuple[Tensor, int]] = []
    for label, folder in enumerate(classes):
        for i, path in enumerate(_pictures(folder)):
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            image = rearrange(_scaled(pixels), "height width channel -> channel height width")
            (test if i % 10 == 9 else train).append((image, label))
    sizes = {tuple(image.shape[1:]) for image, _ in (*train, *test)}
    if len(sizes) > 1 or not test:
        raise SystemExit(
            "pictures are of one size, at least ten for some class; got pictures of the sizes "
            f"{sorted(sizes)}, {len(test)} of them for the test"
        )
    return _stacked(train), _stacked(test)


def _stacked(pairs: list[tuple[Tensor, int]]) -> Images:
    images, labels = zip(*pairs, strict=True)
    return Images(torch.stack(images), torch.tensor(labels))


def _scaled(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1
