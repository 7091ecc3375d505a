"""A step that fails anywhere changes nothing, and can be taken again."""

import copy
import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import modula
from modula import GPT, SteepestDescent
from modula.geometry import Spectral
from tests.helpers import random_gradient
from tests.optim.helpers import frozen_copy, loss_of, mlp, same, train
from tests.optim.test_nonfinite import RULES, every_rule, state_of
from tests.optim.test_steepest_descent import assign

INSIDE = str(Path(modula.__file__).parent)
SETTINGS = {
    "plain": (torch.float32, {}),
    "masters, decay, skip": (torch.bfloat16, {"weight_decay": 0.1, "nonfinite": "skip"}),
    "raise": (torch.float64, {"nonfinite": "raise"}),
}


class Interrupted(BaseException):
    """As KeyboardInterrupt is, no Exception."""


class FailAt(TorchDispatchMode):
    """Raise at the n-th operation of torch, before or after it is carried out."""

    def __init__(self, n: int, *, after: bool) -> None:
        super().__init__()
        self.left, self.after = n, after

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Interrupted
        result = function(*args, **(kwargs or {}))
        if self.left == 0:
            raise Interrupted
        return result


@contextmanager
def fail_at_call(n: int, event: str) -> Iterator[None]:
    """Raise when the n-th call of a function of modula begins or returns."""
    left = n

    def watch(frame, what, _):
        nonlocal left
        code = frame.f_code
        if code is SteepestDescent.step.__code__ or code.co_flags & inspect.CO_GENERATOR:
            return  # it has returned, or Python would swallow the error
        if what == event and code.co_filename.startswith(INSIDE):
            left -= 1
            if left == 0:
                raise Interrupted

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def prepared(rule: str, setting: str, steps: int):
    dtype, arguments = SETTINGS[setting]
    model = mlp(dtype)
    optimizer = SteepestDescent(model, 0.1, **arguments, **RULES[rule])
    train(model, optimizer, range(steps))
    optimizer.zero_grad()
    loss_of(model, 7).backward()
    return model, optimizer


def everything(model, optimizer) -> dict[str, torch.Tensor]:
    """All that a step changes, copied: the weights, the states as far as they exist, the count."""
    found = {name: w.detach().clone() for name, w in model.weights.items()}
    for i, p in enumerate(optimizer.param_groups[0]["params"]):
        found |= {f"{i} {k}": v.clone() for k, v in optimizer.state.get(p, {}).items()}
    return found | {"skipped": optimizer.skipped.clone()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def break_everywhere(rule: str, setting: str, failing: Callable, steps: int) -> int:
    """Fail at the first, the second, … boundary until a step gets through. Return their number.

    Before each try nothing has changed, and the step that gets through is that of a twin.
    """
    model, optimizer = prepared(rule, setting, steps)
    twin, other = copy.deepcopy((model, optimizer))
    assign(twin, model.gradient())
    with failing(10**9):  # under a mode torch may choose other kernels
        other.step()
    before = everything(model, optimizer)
    for n in range(1, 100_000):
        try:
            with failing(n):
                optimizer.step()
        except Interrupted:
            assert equal(everything(model, optimizer), before), n
            continue
        assert equal(everything(model, optimizer), everything(twin, other))
        return n
    raise AssertionError("no step got through")


@every_rule
@pytest.mark.parametrize(
    ("setting", "after", "steps"),
    [("plain", False, 0), ("masters, decay, skip", True, 1), ("raise", False, 1)],
)
def test_a_failure_at_any_operation_of_torch(rule, setting, after, steps):
    tried = break_everywhere(rule, setting, lambda n: FailAt(n, after=after), steps)
    assert tried > 20


@every_rule
@pytest.mark.parametrize("event", ["call", "return"])
def test_a_failure_at_any_call(rule, event):
    tried = break_everywhere(
        rule, "masters, decay, skip", lambda n: fail_at_call(n, event), steps=1
    )
    assert tried > 20


def failed(optimizer, error=RuntimeError):
    """Take a step that must raise, and return whether nothing was changed."""
    before = everything(optimizer.model, optimizer)
    with pytest.raises(error):
        optimizer.step()
    return equal(before, everything(optimizer.model, optimizer))


class Failing(Spectral):
    """A geometry whose duality map raises."""

    def orthogonal_parts(self, gradient):
        raise RuntimeError("broken geometry")


def test_an_error_in_a_geometry():
    model, optimizer = prepared("dualized", "plain", 2)
    model[-1].geometry = Failing(modula.RMS, modula.RMS)
    assert failed(optimizer)


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_an_error_in_a_hook(register):
    _, optimizer = prepared("dualized", "plain", 2)

    def hook(*_):
        raise RuntimeError("broken hook")

    handle = getattr(optimizer, register)(hook)
    assert failed(optimizer)
    handle.remove()
    optimizer.step()


def test_an_error_in_a_closure():
    model, optimizer = prepared("dualized", "plain", 2)
    before = everything(model, optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert equal(before, everything(model, optimizer))


@pytest.mark.parametrize("where", ["closure", "hook"])
def test_an_error_after_a_step_inside_the_step(where):
    """The outer step is undone, with the inner one if that came after its own snapshot."""
    model, optimizer = prepared("dualized", "plain", 2)
    twin, other = copy.deepcopy((model, optimizer))
    if where == "closure":
        assign(twin, model.gradient())
        other.step()

    def fail(*_):
        if not inside:
            inside.append(True)
            optimizer.step()
            raise RuntimeError("broken")

    inside: list[bool] = []
    if where == "hook":
        optimizer.register_step_post_hook(fail)
    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step(fail if where == "closure" else None)
    assert equal(everything(model, optimizer), everything(twin, other))
    inside.append(True)
    optimizer.step()


def test_a_signal_in_the_midst():
    """Timers of the operating system stand for Ctrl-C, which Python handles between bytecodes."""
    torch.manual_seed(0)
    model = GPT(11, d_embed=16, num_heads=2, num_blocks=2)
    optimizer = SteepestDescent(model, 0.1)
    twin, other = copy.deepcopy((model, optimizer))

    def interrupt(_, frame):
        while frame is not None:
            if frame.f_code is SteepestDescent.step.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    kept = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for seed in range(40):
            gradient = random_gradient(model, seed)
            assign(model, gradient)
            before = everything(model, optimizer)
            signal.setitimer(signal.ITIMER_REAL, 3e-4 * (1 + seed))
            try:
                optimizer.step()
            except KeyboardInterrupt:
                interrupted += 1
                assert equal(before, everything(model, optimizer))
                optimizer.step()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assign(twin, gradient)
            other.step()
            assert same(model.weights, twin.weights)
    finally:
        signal.signal(signal.SIGALRM, kept)
    assert interrupted


def test_frozen_parameters_and_their_states_are_left_alone_by_a_failure():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(2))
    model[0].requires_grad_(False)
    assign(model, random_gradient(model, 0))
    weights, state = frozen_copy(model), state_of(optimizer)
    with pytest.raises(Interrupted), FailAt(40, after=True):
        optimizer.step()
    assert same(model.weights, weights)
    assert all(
        torch.equal(now[k], then[k])
        for now, then in zip(state_of(optimizer), state, strict=True)
        for k in then
    )
