"""Text to train on, with one token per character unless another file says otherwise."""

from __future__ import annotations

import hashlib
import sysconfig
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CACHE = Path.home() / ".cache" / "modula"


@dataclass(frozen=True)
class Corpus(ABC):
    """A text as token ids, of which the last tenth is for validation."""

    train: Tensor
    validation: Tensor
    unit: ClassVar[str]
    """What one id stands for."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of different ids."""

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Return the text of some ids."""

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Return the ids of a text."""


@dataclass(frozen=True)
class Characters(Corpus):
    """A text with one id for each character."""

    characters: str
    unit = "character"

    @property
    def size(self) -> int:
        return len(self.characters)

    def decode(self, ids: list[int]) -> str:
        return "".join(self.characters[i] for i in ids)

    def encode(self, text: str) -> Tensor:
        return torch.tensor([self.characters.index(c) for c in text])


def load(source: str, characters: int | None = None) -> Characters:
    """Return the corpus of "stdlib", "shakespeare", or the path of a UTF-8 file.

    Args:
        source: one of these.
        characters: how many of the text's first characters are taken; None takes all.
    """
    text = read(source)
    if characters is not None:
        text = first(text, characters)
    alphabet = "".join(sorted(set(text)))
    position = {c: i for i, c in enumerate(alphabet)}
    return Characters(*split(torch.tensor([position[c] for c in text])), alphabet)


def first(text: str, characters: int) -> str:
    """Return the first characters of a text that has at least as many."""
    if not 1000 <= characters <= len(text):
        raise SystemExit(
            f"--characters takes 1,000 to {len(text):,}, which is all of the text, got {characters}"
        )
    return text[:characters]


def split(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first nine tenths, to train on, and the last tenth."""
    count = len(ids) - len(ids) // 10
    return ids[:count], ids[count:]


def read(source: str) -> str:
    """Return the text of "stdlib", "shakespeare", or the path of a UTF-8 file."""
    named = {"stdlib": read_stdlib, "shakespeare": read_shakespeare}
    return named[source]() if source in named else read_file(source)


def read_stdlib() -> str:
    """Return the source of Python's standard library: its top-level modules in pure ASCII."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    sources = [path.read_bytes() for path in files]
    return "\n".join(source.decode() for source in sources if source.isascii())


def read_shakespeare() -> str:
    """Return tiny Shakespeare, which is downloaded once and compared with its checksum."""
    path = CACHE / "tinyshakespeare.txt"
    if not path.exists():
        try:
            with urllib.request.urlopen(SHAKESPEARE_URL, timeout=30) as response:
                content = response.read()
        except (urllib.error.URLError, TimeoutError) as error:
            raise SystemExit(
                f"could not download tiny Shakespeare from {SHAKESPEARE_URL} ({error}).\n"
                f"Without a network, put the file at {path}, train on any text with --data FILE, "
                "or leave --data out to train on the source of Python's standard library."
            ) from None
        CACHE.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHAKESPEARE_SHA256:
        raise SystemExit(
            f"{path} is not tiny Shakespeare: its SHA-256 differs from {SHAKESPEARE_SHA256}. "
            "Delete it and try again."
        )
    return content.decode()


def read_file(source: str) -> str:
    """Return the content of a UTF-8 file."""
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(
            f'cannot read --data {source}: {error}. Give "stdlib", "shakespeare", or the path of a '
            "UTF-8 text file."
        ) from None
    if len(text) < 10_000:
        raise SystemExit(
            f"--data {source} holds {len(text)} characters; training and validation take at least "
            "10,000"
        )
    return text


def windows(ids: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut all of `ids` into inputs [n, length] and targets, which are shifted by one token."""
    n = (len(ids) - 1) // length
    return ids[: n * length].view(n, length), ids[1 : n * length + 1].view(n, length)


def batch(ids: Tensor, size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return windows at random places: inputs [size, length] and targets, shifted by one token."""
    starts = torch.randint(len(ids) - length, (size,), generator=generator)
    chosen = ids[starts[:, None] + torch.arange(length + 1)]
    return chosen[:, :-1], chosen[:, 1:]


def shuffled(ids: Tensor, size: int, length: int, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return batch number `step` of a run that reads the whole text before it reads it again.

    Each reading cuts the text into windows from another offset and takes them in another order.
    Within one reading nothing is left out and nothing is repeated. The batch follows from the
    step alone, so that a resumed run has no state to restore.

    Returns:
        Inputs [size, length] and targets, which are shifted by one token.

    Raises:
        SystemExit: the text has fewer windows than a batch.
    """
    count = len(ids) // length - 1
    if count < size:
        found = f"a text of {len(ids)} characters has {max(count, 0)} windows of {length}"
        raise SystemExit(f"{found}, and a batch takes {size}: take a longer text")
    epoch, place = divmod(step, count // size)
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    start = torch.randint(length, (1,), generator=generator)
    order = torch.randperm(count, generator=generator)[place * size : (place + 1) * size]
    chosen = ids[(start + length * order)[:, None] + torch.arange(length + 1)]
    return chosen[:, :-1], chosen[:, 1:]
