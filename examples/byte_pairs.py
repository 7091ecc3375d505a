"""Text to train on in byte pairs, which are learned on it. Needs the `tokenizers` library."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from text import Corpus, read, split
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

VOCABULARY = 4096


@dataclass(frozen=True)
class BytePairs(Corpus):
    """A text as ids of byte pairs."""

    tokenizer: Tokenizer
    unit = "token"

    @property
    def size(self) -> int:
        size: int = self.tokenizer.get_vocab_size()
        return size

    def decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids)
        return text

    def encode(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer.encode(text).ids)


def load(source: str, vocabulary: int = VOCABULARY) -> BytePairs:
    """Return the corpus of "stdlib", "shakespeare", or the path of a UTF-8 file, in byte pairs.

    Args:
        source: of the text.
        vocabulary: the number of byte pairs and bytes that are learned on the whole text, at most.
    """
    text = read(source)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([text], trainer)
    return BytePairs(*split(torch.tensor(tokenizer.encode(text).ids)), tokenizer)
