"""Generation: `KeyValueCache` continues a sequence piece by piece, `generate` writes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar, cast, overload

import torch
from torch import Tensor

from modula.algebra.core import AnyModule, Composition, Compound, Concatenation, Module
from modula.algebra.parallel import Parallel
from modula.bonds.incremental import Incremental
from modula.norms import RMS, Norm, OneHot
from modula.progress import progress
from modula.values import Value

X = TypeVar("X")
Y = TypeVar("Y")
N = TypeVar("N", bound=Norm)

Step: TypeAlias = Callable[[Value], Value]
"""A part of a network as a function of its input at the new positions."""


class KeyValueCache(Generic[X, Y]):
    """A causal network that continues a sequence, with the keys and values of its positions so far.

    Sliding windows keep the last keys and values alone, and positions continue to be counted. The
    time of one more position does not depend on the number of those before it, but for the scores
    of attention itself.

    All modules but those that are `modula.bonds.Incremental` must treat each position by itself.

    Args:
        model: a causal network, such as `GPT` or `Llama`.

    Raises:
        TypeError: the model is not a module of the algebra, or a part of it has a forward map of
            its own, which cannot be continued.
        ValueError: attention that is not causal.

    Example:
        >>> import torch
        >>> from modula import GPT, KeyValueCache
        >>> model = GPT(65, d_embed=32, num_heads=4, num_blocks=2)
        >>> ids = torch.randint(65, (1, 10))
        >>> cache = KeyValueCache(model)
        >>> first, last = cache.extend(ids[:, :9]), cache.extend(ids[:, 9:])
        >>> torch.allclose(torch.cat((first, last), dim=1), model(ids), atol=1e-5)
        True
    """

    def __init__(self, model: Module[X, Y]) -> None:
        self._step = _step_of(model)

    @overload
    def extend(self: KeyValueCache[X, N], x: Value) -> Tensor: ...
    @overload
    def extend(self, x: Value) -> Value: ...
    @torch.no_grad()
    def extend(self, x: Value) -> Value:
        """Return the output at the next positions, as it is in the whole sequence.

        Args:
            x: the input at these positions, such as ids [batch, position].
        """
        return self._step(x)


def _step_of(module: object) -> Step:
    """The module as a function of new positions, with a state for each part that has one."""
    if not isinstance(module, AnyModule):
        raise TypeError(
            f"KeyValueCache continues modules of modula's algebra, got {type(module).__name__}"
        )
    if isinstance(module, Incremental):
        return _Resumed(module)
    if not isinstance(module, Compound):
        return module
    steps = [_step_of(component) for component in module.components()]
    if isinstance(module, Composition) and type(module).forward is Composition.forward:
        return _Chain(steps)
    if isinstance(module, Concatenation) and type(module).forward is Concatenation.forward:
        return lambda x: tuple([step(x) for step in steps])
    if isinstance(module, Parallel) and type(module).forward is Parallel.forward:
        return _Each(steps)
    raise TypeError(
        f"{module!r} has a forward map of its own, which KeyValueCache cannot continue: compose it "
        "of modules"
    )


class _Resumed:
    """A bond and its state."""

    def __init__(self, bond: Incremental[object]) -> None:
        self._bond = bond
        self._state = bond.start()

    def __call__(self, x: Value) -> Value:
        y, self._state = self._bond.resume(x, self._state)
        return y


class _Chain:
    """Steps one after another."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __call__(self, x: Value) -> Value:
        for step in self._steps:
            x = step(x)
        return x


class _Each:
    """Steps, one for each entry of a tuple."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __call__(self, x: Value) -> Value:
        entries = cast("tuple[Value, ...]", x)
        return tuple([step(entry) for step, entry in zip(self._steps, entries, strict=True)])


@torch.no_grad()
def generate(
    model: Module[OneHot, RMS],
    ids: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return ids and `count` more, each drawn from the model's prediction after those before it.

    The time per token does not grow with their number, since keys and values are kept
    (`KeyValueCache`). With tqdm installed, a bar shows the progress on a terminal after three
    seconds.

    Args:
        model: from token ids to logits, causal.
        ids: integers [batch, position], at least one position; all rows are of equal length.
        count: the number of tokens to add to each row.
        temperature: divides the logits; 0 takes the most probable token each time.
        top_k: only the k most probable tokens are drawn; None for all of them.
        generator: of the random numbers; None takes the default generator of the device.

    Returns:
        Integers [batch, position + count], the given ids first.

    Raises:
        ValueError: ids without a position, a negative count or temperature, `top_k` below 1; or a
            network that is not causal, whose prediction changes with the tokens after it.
        IndexError: more positions than a table of learned positions has.

    Example:
        >>> import torch
        >>> from modula import GPT, generate
        >>> model = GPT(65, d_embed=32, num_heads=4, num_blocks=2)
        >>> generate(model, torch.tensor([[1, 2, 3]]), 20, temperature=0.8, top_k=10).shape
        torch.Size([1, 23])
    """
    _check(ids, count, temperature, top_k)
    cache = KeyValueCache(model)
    prompt = ids.shape[-1]
    out = torch.cat((ids, ids.new_zeros(len(ids), count)), dim=1)
    logits = _prediction(model, cache, ids)
    for i in progress(range(count), "generate", "token"):
        if i:
            logits = _last(cache.extend(out[:, prompt + i - 1 : prompt + i]))
        out[:, prompt + i] = _drawn(logits, temperature, top_k, generator)
    return out


def _check(ids: Tensor, count: int, temperature: float, top_k: int | None) -> None:
    if ids.dim() != 2 or ids.shape[1] < 1:
        raise ValueError(
            f"generate continues ids [batch, position] of at least 1 position, got a tensor of "
            f"shape {list(ids.shape)}"
        )
    if count < 0:
        raise ValueError(f"generate adds a number of tokens ≥ 0, got count={count}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(
            f"generate takes a temperature ≥ 0, where 0 takes the most probable token; got "
            f"{temperature}"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"generate draws from at least 1 token, got top_k={top_k}")


def _prediction(
    model: Module[OneHot, RMS], cache: KeyValueCache[OneHot, RMS], ids: Tensor
) -> Tensor:
    """The logits after the prompt, which fills the cache.

    Raises:
        ValueError: they are not those of the whole network.
    """
    if ids.shape[1] == 1:
        return _last(cache.extend(ids))
    whole = _last(model(ids))
    cache.extend(ids[:, :-1])
    found = _last(cache.extend(ids[:, -1:]))
    tolerance = math.sqrt(torch.finfo(whole.dtype).eps) * float(whole.abs().amax())
    difference = float((found - whole).abs().amax())
    if not difference <= tolerance and bool(whole.isfinite().all()):
        raise ValueError(
            f"the logits of {model!r} differ by {difference:.3g} (tolerance {tolerance:.3g}) when "
            "its last token is added to the others: generate continues causal networks, in which "
            "each module but attention and positions treats every position by itself"
        )
    return found


def _last(logits: Value) -> Tensor:
    """The logits of the last position, [batch, vocab_size]."""
    return cast("Tensor", logits)[:, -1]


def _drawn(
    logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    """One token for each row of logits."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float()
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = torch.softmax((logits - logits.amax(-1, keepdim=True)) / temperature, dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
