"""Checkpoints: a load restores the saved bits; a mismatch raises and changes nothing; writes are
atomic.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from modula import GPT, Bias, Linear, Module, ReLU, SteepestDescent, checkpoint
from modula.checkpoint import CheckpointError
from modula.checkpoint.description import VERSION
from modula.optim.rules import Adam, AsDirection, Momentum, Normalized
from tests.checkpoint.networks import ChainOfLinears, chain_of_linears
from tests.checkpoint.run import fingerprint, go_on
from tests.optim.helpers import mlp, same, train

HOME = Path(__file__).parent.parent
ALL = ["run.pt", "run.safetensors", "run"]
WITH_OPTIMIZER = ["run.pt", "run"]
IGNORED = "differentiable"
"""A setting that torch adds to every state it loads, and that modula does not use."""

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


@pytest.fixture(autouse=True)
def _safetensors(request: pytest.FixtureRequest) -> None:
    if "safetensors" in request.node.name:
        pytest.importorskip("safetensors")


def trained(model: Module | None = None, **arguments: object) -> tuple[Module, SteepestDescent]:
    """A model and its optimizer after three steps."""
    model = mlp() if model is None else model
    optimizer = SteepestDescent(model, 0.1, **arguments)
    train(model, optimizer, range(3))
    return model, optimizer


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[bytes]:
    """Everything that a load could change."""

    def all_of(value: object) -> list[bytes]:
        if isinstance(value, Tensor):
            return [
                str(value.dtype).encode(),
                value.detach().contiguous().view(torch.uint8).numpy().tobytes()
                if value.dim()
                else bytes(str(value), "ascii"),
            ]
        if isinstance(value, dict):
            return [
                part
                for key, entry in sorted(value.items(), key=str)
                if key != IGNORED
                for part in (str(key).encode(), *all_of(entry))
            ]
        if isinstance(value, (list, tuple)):
            return [part for entry in value for part in all_of(entry)]
        return [repr(value).encode()]

    return all_of(model.state_dict()) + all_of(optimizer.state_dict())


def refused(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    match: str,
    *,
    with_optimizer: bool = True,
) -> None:
    """Assert that loading raises a CheckpointError and changes nothing."""
    before = bits(model, optimizer)
    with pytest.raises(CheckpointError, match=match):
        checkpoint.load(path, model, optimizer if with_optimizer else None)
    assert bits(model, optimizer) == before


# A load restores what was saved


@pytest.mark.parametrize("name", ALL)
def test_weights_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, _ = trained()
    checkpoint.save(tmp_path / name, model)
    checkpoint.load(tmp_path / name, other := mlp())
    assert same(model.weights, other.weights)


RULES = {
    "dualized": {},
    "with decay": {"weight_decay": 0.1, "momentum": 0.5, "nesterov": False},
    "normalized": {"normalize": True},
    "adam": {"normalize": True, "base": "adam"},
    "skipping": {"nonfinite": "skip"},
    "adapting masses": {"adapt_masses": 0.1},
    "a rule": {"rule": Normalized(AsDirection(Momentum(nesterov=False)))},
    "another rule": {"rule": Normalized(Adam(betas=(0.8, 0.9)))},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_a_run_goes_on_bit_for_bit(name: str, rule: str, tmp_path: Path) -> None:
    model, optimizer = trained(**RULES[rule])
    checkpoint.save(tmp_path / name, model, optimizer)
    train(model, optimizer, range(3, 6))
    other = mlp()
    resumed = SteepestDescent(other, 0.9, **RULES[rule])
    checkpoint.load(tmp_path / name, other, resumed)
    train(other, resumed, range(3, 6))
    assert bits(model, optimizer) == bits(other, resumed)


def test_a_run_goes_on_bit_for_bit_in_a_new_process(tmp_path: Path) -> None:
    first = [sys.executable, "-m", "tests.checkpoint.run", tmp_path / "run.pt", "3"]
    subprocess.run(
        first,
        cwd=HOME,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert fingerprint(go_on(tmp_path / "run.pt", 6)) == fingerprint(
        go_on(tmp_path / "whole.pt", 6)
    )


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, torch.no_grad, partial(torch.autocast, "cpu", torch.bfloat16)]
)
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_a_run_goes_on_in_whatever_mode_it_is_loaded(
    name: str, mode: Callable[[], AbstractContextManager[object]], tmp_path: Path
) -> None:
    model, optimizer = trained()
    with mode():
        checkpoint.save(tmp_path / name, model, optimizer)
    other, resumed = trained()
    with mode():
        checkpoint.load(tmp_path / name, other, resumed)
    train(model, optimizer, range(3, 5))
    train(other, resumed, range(3, 5))
    assert bits(model, optimizer) == bits(other, resumed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_a_run_in_16_bits_keeps_its_master_copies(
    dtype: torch.dtype, name: str, tmp_path: Path
) -> None:
    model, optimizer = trained(mlp(dtype))
    checkpoint.save(tmp_path / name, model, optimizer)
    other = mlp(dtype)
    resumed = SteepestDescent(other, 0.1)
    checkpoint.load(tmp_path / name, other, resumed)
    assert bits(model, optimizer) == bits(other, resumed)


@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_a_frozen_part_has_no_state(name: str, tmp_path: Path) -> None:
    frozen, other = mlp(), mlp()
    for model in (frozen, other):
        model[0].requires_grad_(False)
    model, optimizer = trained(frozen)
    checkpoint.save(tmp_path / name, model, optimizer)
    checkpoint.load(tmp_path / name, other, resumed := SteepestDescent(other, 0.1))
    assert bits(model, optimizer) == bits(other, resumed)


@pytest.mark.parametrize(
    "kind",
    [torch.optim.AdamW, partial(torch.optim.SGD, lr=0.1, momentum=0.9), torch.optim.Adafactor],
)
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_other_optimizers_go_on_bit_for_bit(name: str, kind: Callable, tmp_path: Path) -> None:
    model, other = mlp(torch.float32), mlp(torch.float32)
    optimizer, resumed = kind(model.parameters()), kind(other.parameters())
    train(model, optimizer, range(3))
    checkpoint.save(tmp_path / name, model, optimizer)
    checkpoint.load(tmp_path / name, other, resumed)
    train(model, optimizer, range(3, 5))
    train(other, resumed, range(3, 5))
    assert bits(model, optimizer) == bits(other, resumed)


@pytest.mark.parametrize("name", ALL)
def test_plain_extras_come_back(name: str, tmp_path: Path) -> None:
    extra = {
        "step": 3,
        "losses": [1.5, 0.25],
        "note": "ü",
        "nothing": None,
        "nested": {"a": [True, {"b": 2.0}]},
    }
    checkpoint.save(tmp_path / name, mlp(), **extra)
    assert checkpoint.load(tmp_path / name, mlp()) == extra


@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_tensors_among_the_extras_come_back(name: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    checkpoint.save(tmp_path / name, mlp(), batches=generator.get_state(), ema=torch.ones(2, 3))
    extra = checkpoint.load(tmp_path / name, mlp())
    expected = torch.rand(5, generator=generator)
    other = torch.Generator()
    other.set_state(extra["batches"])
    assert torch.equal(torch.rand(5, generator=other), expected)
    assert torch.equal(extra["ema"], torch.ones(2, 3))


SCHEDULES = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 - step / 10),
    "steps": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.3, total_steps=10),
    "in a row": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=2), lr_scheduler.CosineAnnealingLR(o, 8)],
        milestones=[2],
    ),
    "at a plateau": lr_scheduler.ReduceLROnPlateau,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_states_of_schedules_can_be_saved(schedule: str, tmp_path: Path) -> None:
    model, optimizer = trained()
    state = SCHEDULES[schedule](optimizer).state_dict()
    checkpoint.save(tmp_path / "run.pt", model, optimizer, schedule=state)
    assert checkpoint.load(tmp_path / "run.pt", model, optimizer)["schedule"] == state


def test_without_the_optimizer_only_the_weights_are_taken(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run.pt", model, optimizer)
    other, fresh = trained()
    before = bits(nn.Identity(), fresh)
    checkpoint.load(tmp_path / "run.pt", other)
    assert same(model.weights, other.weights)
    assert bits(nn.Identity(), fresh) == before


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        (torch.float64, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
)
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_loading_converts_as_torch_does(
    name: str, saved: torch.dtype, loaded: torch.dtype, tmp_path: Path
) -> None:
    model, optimizer = trained(mlp(saved))
    checkpoint.save(tmp_path / name, model, optimizer)
    other, expected = mlp(loaded), mlp(loaded)
    resumed, reference = SteepestDescent(other, 0.1), SteepestDescent(expected, 0.1)
    expected.load_state_dict(model.state_dict())
    reference.load_state_dict(optimizer.state_dict())
    checkpoint.load(tmp_path / name, other, resumed)
    assert bits(other, resumed) == bits(expected, reference)


def test_any_module_and_its_wrapper_can_be_saved(tmp_path: Path) -> None:
    average = AveragedModel(mlp())
    checkpoint.save(tmp_path / "ema.pt", nn.ModuleDict({"average": average}))
    other = nn.ModuleDict({"average": AveragedModel(mlp())})
    checkpoint.load(tmp_path / "ema.pt", other)
    assert all(
        map(torch.equal, average.state_dict().values(), other["average"].state_dict().values())
    )


def test_a_file_opens_without_this_library(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run.pt", model, optimizer, step=3)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    (other := mlp()).load_state_dict(state["model"])
    SteepestDescent(other, 0.1).load_state_dict(state["optimizer"])
    assert same(model.weights, other.weights)
    assert state["step"] == 3


def test_safetensors_opens_without_this_library(tmp_path: Path) -> None:
    torch_io = pytest.importorskip("safetensors.torch")
    model, _ = trained()
    checkpoint.save(tmp_path / "run.safetensors", model)
    torch_io.load_model(other := mlp(), tmp_path / "run.safetensors")
    assert same(model.weights, other.weights)


def test_tensors_of_a_folder_open_without_this_library(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    model, _ = trained()
    checkpoint.save(tmp_path / "run", model)
    (tensors,) = (tmp_path / "run").glob("tensors-*")
    dcp_to_torch_save(tensors, tmp_path / "flat.pt")
    flat = torch.load(tmp_path / "flat.pt", weights_only=True)
    assert all(torch.equal(flat[f"model.{name}"], w) for name, w in model.state_dict().items())


# Networks that are not themselves torch modules


def trained_chain() -> tuple[ChainOfLinears, SteepestDescent]:
    network = chain_of_linears()
    optimizer = SteepestDescent(network, 0.1)
    train_chain(network, optimizer, range(3))
    return network, optimizer


def train_chain(network: ChainOfLinears, optimizer: SteepestDescent, steps: range) -> None:
    for seed in steps:
        x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        network.torch_module(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_a_network_over_a_torch_module_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    network, optimizer = trained_chain()
    checkpoint.save(tmp_path / name, network, optimizer)
    train_chain(network, optimizer, range(3, 6))
    other = chain_of_linears()
    resumed = SteepestDescent(other, 0.9)
    checkpoint.load(tmp_path / name, other, resumed)
    train_chain(other, resumed, range(3, 6))
    assert bits(network.torch_module, optimizer) == bits(other.torch_module, resumed)


@pytest.mark.parametrize("name", ALL)
def test_weights_of_a_network_load_into_its_torch_module(name: str, tmp_path: Path) -> None:
    network, other = chain_of_linears(), chain_of_linears()
    checkpoint.save(tmp_path / name, network)
    checkpoint.load(tmp_path / name, other.torch_module)
    assert same(network.weights, other.weights)


def test_other_operations_are_refused_with_the_optimizer(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run.pt", *trained_chain())
    other = chain_of_linears("Linear, transposed")
    resumed = SteepestDescent(other, 0.1)
    before = bits(other.torch_module, resumed)
    with pytest.raises(CheckpointError, match="at '0' it has Linear in the checkpoint and Linear,"):
        checkpoint.load(tmp_path / "run.pt", other, resumed)
    assert bits(other.torch_module, resumed) == before


# Damaged and foreign files


def files(path: Path) -> list[Path]:
    """The files of a checkpoint."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("name", "file"), [("run.pt", 0), ("run.safetensors", 0), ("run", 0), ("run", 1), ("run", 2)]
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(name: str, file: int, kept: float, tmp_path: Path) -> None:
    model, optimizer = trained()
    own = None if name.endswith("safetensors") else optimizer
    checkpoint.save(tmp_path / name, model, own)
    path = files(tmp_path / name)[file]
    os.truncate(path, int(kept * path.stat().st_size))
    other, fresh = trained()
    refused(tmp_path / name, other, fresh, name, with_optimizer=own is not None)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(
    place: float, flip: int, tmp_path: Path
) -> None:
    """Some bytes are padding. All others have a checksum, which torch.load does not verify."""
    model, optimizer = trained()
    path = tmp_path / "run.pt"
    checkpoint.save(path, model, optimizer)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= flip
    path.write_bytes(data)
    other, fresh = trained()
    before = bits(other, fresh)
    try:
        checkpoint.load(path, other, fresh)
    except CheckpointError:
        assert bits(other, fresh) == before
    else:
        assert bits(other, fresh) == bits(model, optimizer)


def test_a_changed_byte_of_a_tensor_is_refused(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = tmp_path / "run.pt"
    checkpoint.save(path, model, optimizer)
    data = bytearray(path.read_bytes())
    start = data.index(model.weights.tensors[0].detach().numpy().tobytes())
    data[start + 5] ^= 1
    path.write_bytes(data)
    refused(path, model, optimizer, "damaged: the checksum")


class Arbitrary:
    """An object that only unpickling could restore."""


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("To be, or not to be"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"model": 1})),
    "a zip archive": lambda path: np.savez(path.open("wb"), a=np.ones(3)),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "a state dict": lambda path: torch.save(mlp().state_dict(), path),
    "the old format of torch": lambda path: torch.save(
        {"model": {}}, path, _use_new_zipfile_serialization=False
    ),
    "a hand-made checkpoint": lambda path: torch.save(
        {"model": mlp().state_dict(), "optimizer": {}}, path
    ),
    "a whole model": lambda path: torch.save(mlp(), path),
    "an object": lambda path: torch.save(
        {"modula": Arbitrary(), "model": {}, "optimizer": None}, path
    ),
    "one without a description": lambda path: torch.save(
        {"modula": {}, "model": {}, "optimizer": None}, path
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused(kind: str, tmp_path: Path) -> None:
    FOREIGN[kind](tmp_path / "run.pt")
    refused(tmp_path / "run.pt", *trained(), r"run\.pt")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"modula": "{}"}])
def test_safetensors_of_others_are_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    torch_io = pytest.importorskip("safetensors.torch")
    torch_io.save_file(mlp().state_dict(), tmp_path / "run.safetensors", metadata)
    refused(
        tmp_path / "run.safetensors", *trained(), "was not written by `save`", with_optimizer=False
    )


@pytest.mark.parametrize("version", [1, VERSION + 1])
def test_another_version_is_refused(version: int, tmp_path: Path) -> None:
    """Whatever the entries of its description."""
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run.pt", model, optimizer)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    state["modula"] = {"version": version}
    torch.save(state, tmp_path / "run.pt")
    match = f"version {version}, this library reads version {VERSION}"
    refused(tmp_path / "run.pt", model, optimizer, match)


@pytest.mark.parametrize("name", ALL)
def test_a_missing_checkpoint_raises_file_not_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run"):
        checkpoint.load(tmp_path / name, mlp())


def test_a_folder_without_an_index_raises_file_not_found(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError, match=r"index\.pt"):
        checkpoint.load(tmp_path / "run", mlp())


def test_the_index_of_a_folder_is_refused_as_a_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run", model, optimizer)
    refused(
        tmp_path / "run" / "index.pt", model, optimizer, "is the index of a checkpoint in a folder"
    )


def test_a_file_is_refused_as_the_index_of_a_folder(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run" / "index.pt", model, optimizer)
    refused(tmp_path / "run", model, optimizer, "is a checkpoint by itself")


def test_a_folder_without_its_tensors_is_refused(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run", model, optimizer)
    for file in (tmp_path / "run").glob("tensors-*/*.distcp"):
        file.unlink()
    refused(tmp_path / "run", *trained(), "run")


# Mismatches

OTHERS: dict[str, tuple[Callable[[], Module], str]] = {
    "wider": (
        lambda: (Linear(3, 8, mass=2.0) @ (0.5 * ReLU()) @ Bias(8) @ Linear(8, 5)).double(),
        r"Linear\(6, 5\) in the checkpoint",
    ),
    "shorter": (lambda: (Linear(3, 6) @ Linear(6, 5)).double(), "of another model"),
    "of the same shapes": (
        lambda: (Linear(3, 6, mass=2.0) @ (0.25 * ReLU()) @ Bias(6) @ Linear(6, 5)).double(),
        r"Mul\(0.5\).*Mul\(0.25\)",
    ),
    "an ordinary one": (lambda: nn.Sequential(nn.Linear(5, 3)), "of another model"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ALL)
def test_another_model_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / name, model, None if name.endswith("safetensors") else optimizer)
    make, match = OTHERS[kind]
    other = make()
    refused(
        tmp_path / name, other, torch.optim.SGD(other.parameters()), match, with_optimizer=False
    )


def test_another_number_of_heads_is_refused(tmp_path: Path) -> None:
    """All weights have the same names and shapes."""
    checkpoint.save(tmp_path / "run.pt", GPT(11, d_embed=8, num_heads=2, num_blocks=1))
    with pytest.raises(CheckpointError, match=r"num_heads=2.*num_heads=4"):
        checkpoint.load(tmp_path / "run.pt", GPT(11, d_embed=8, num_heads=4, num_blocks=1))


OTHER_OPTIMIZERS: dict[str, tuple[Callable[[Module], torch.optim.Optimizer], str]] = {
    "adam": (
        lambda model: torch.optim.Adam(model.parameters()),
        r"SteepestDescent by Dualized\(Momentum\) in the checkpoint and Adam here",
    ),
    "base": (
        lambda model: SteepestDescent(model, 0.1, normalize=True, base="adam"),
        r"Normalized\(Adam\) here",
    ),
    "normalize": (
        lambda model: SteepestDescent(model, 0.1, normalize=True),
        r"Normalized\(AsDirection\(Momentum\)\) here",
    ),
}


@pytest.mark.parametrize("kind", OTHER_OPTIMIZERS)
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_another_optimizer_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / name, model, optimizer)
    make, match = OTHER_OPTIMIZERS[kind]
    other = mlp()
    refused(tmp_path / name, other, make(other), match)


def test_parameters_in_another_order_are_refused(tmp_path: Path) -> None:
    model = mlp()
    checkpoint.save(tmp_path / "run.pt", model, torch.optim.SGD(model.parameters()))
    refused(
        tmp_path / "run.pt",
        model,
        torch.optim.SGD(list(model.parameters())[::-1]),
        "in another order",
    )


@pytest.mark.parametrize("name", ALL)
def test_a_missing_optimizer_is_refused(name: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / name, mlp())
    refused(tmp_path / name, *trained(), "has no state of an optimizer")


def test_other_masses_are_refused_with_the_optimizer_and_taken_without(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run.pt", model, optimizer)
    other, resumed = trained()
    other[0].tare(7.0)
    refused(tmp_path / "run.pt", other, resumed, r"model\.tare")
    checkpoint.load(tmp_path / "run.pt", other)
    assert same(model.weights, other.weights)


def test_an_error_of_the_optimizer_changes_nothing(tmp_path: Path) -> None:
    """Only a file that was tampered with passes the checks before it."""
    model, optimizer = trained()
    checkpoint.save(tmp_path / "run.pt", model, optimizer)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    state["optimizer"]["state"][0]["momentum_buffer"] = torch.ones(2)
    torch.save(state, tmp_path / "run.pt")
    refused(tmp_path / "run.pt", *trained(), r"momentum_buffer of '0\.weight' is \[2\]")


def test_a_model_without_values_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run.pt", mlp())
    bare = mlp().to("meta")
    with pytest.raises(CheckpointError, match="to_empty"):
        checkpoint.load(tmp_path / "run.pt", bare)
    with pytest.raises(CheckpointError, match="to_empty"):
        checkpoint.save(tmp_path / "run.pt", bare)


# Values that cannot be saved

UNFIT = {
    "an object": (Arbitrary(), "Arbitrary"),
    "a schedule": (lr_scheduler.ConstantLR(torch.optim.SGD([torch.ones(1)])), r"state_dict\(\)"),
    "a generator": (torch.Generator(), r"get_state\(\)"),
    "a NumPy number": (np.float64(1.0), r"\.item\(\)"),
    "a NumPy array": (np.ones(2), "from_numpy"),
    "something inside": ({"a": [0, Arbitrary()]}, r"extra\['a'\]\[1\] is a Arbitrary"),
    "a function": (print, "builtin_function"),
}


@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("name", ALL)
def test_objects_are_refused_before_anything_is_written(
    name: str, kind: str, tmp_path: Path
) -> None:
    value, match = UNFIT[kind]
    with pytest.raises(CheckpointError, match=None if name.endswith("safetensors") else match):
        checkpoint.save(tmp_path / name, mlp(), extra=value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "taken"), [("run.pt", "modula"), ("run", "modula"), ("run", "tensors")]
)
def test_names_of_the_checkpoint_itself_are_refused(name: str, taken: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the checkpoint's own entry"):
        checkpoint.save(tmp_path / name, mlp(), **{taken: 1})


def test_safetensors_refuses_an_optimizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights alone"):
        checkpoint.save(tmp_path / "run.safetensors", *trained())


def test_safetensors_refuses_tensors_beside_the_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'batches' is not"):
        checkpoint.save(tmp_path / "run.safetensors", mlp(), batches=torch.ones(2))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.ModuleDict({"module": model}),
    ],
)
def test_wrapped_models_are_refused(wrap: Callable[[Module], nn.Module], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pass the model itself"):
        checkpoint.save(tmp_path / "run.pt", wrap(mlp()))


def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path: Path) -> None:
    (tmp_path / "run.pt").mkdir()
    (tmp_path / "run").write_text("something else")
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.save(tmp_path / "run.pt", mlp())
    with pytest.raises(CheckpointError, match="is a file"):
        checkpoint.save(tmp_path / "run", mlp())
    assert (tmp_path / "run").read_text() == "something else"


# Writes are atomic


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    name: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = trained()
    checkpoint.save(tmp_path / name, model, step=1)
    before = model.weights.clone()
    train(model, SteepestDescent(model, 0.1), range(2))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises((OSError, CheckpointError), match="No space left"):
            checkpoint.save(tmp_path / name, model, step=2)
    assert checkpoint.load(tmp_path / name, other := mlp()) == {"step": 1}
    assert same(other.weights, before)


@pytest.mark.parametrize("name", ALL)
def test_only_the_checkpoint_is_on_the_disk(name: str, tmp_path: Path) -> None:
    for step in range(3):
        checkpoint.save(tmp_path / name, mlp(), step=step)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    names = [re.sub("tensors-[0-9a-f]{8}", "tensors", path) for path in left]
    data = [f"run/tensors{file}" for file in ("", "/.metadata", "/__0_0.distcp", "/lock")]
    assert names == (["run", "run/index.pt", *data] if name == "run" else [name])


@pytest.mark.parametrize("name", ["run.pt", "run.safetensors"])
def test_unfinished_files_are_ignored_and_removed(name: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / name, mlp(), step=1)
    for path in (
        left := tmp_path / f".{name}.0123abcd.unfinished",
        neighbour := tmp_path / ".other.pt.0123abcd.unfinished",
    ):
        path.write_bytes(b"half a file")
    assert checkpoint.load(tmp_path / name, mlp()) == {"step": 1}
    assert left.exists()
    checkpoint.save(tmp_path / name, mlp(), step=2)
    assert not left.exists()
    assert neighbour.exists()


def test_unfinished_folders_are_ignored_and_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run", mlp(), step=1)
    left = tmp_path / "run" / "tensors-0123abcd"
    left.mkdir()
    (left / "lock").touch()
    (left / "__0_0.distcp").write_bytes(b"half a file")
    (left / "__7_0.distcp").write_bytes(b"of one more process")
    assert checkpoint.load(tmp_path / "run", mlp()) == {"step": 1}
    checkpoint.save(tmp_path / "run", mlp(), step=2)
    assert checkpoint.load(tmp_path / "run", mlp()) == {"step": 2}
    assert not left.exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "last.pt").symlink_to(tmp_path / "disk" / "run.pt")
    checkpoint.save(tmp_path / "last.pt", mlp(), step=1)
    assert (tmp_path / "last.pt").is_symlink()
    assert checkpoint.load(tmp_path / "disk" / "run.pt", mlp()) == {"step": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of one warm process")
@pytest.mark.parametrize("name", WITH_OPTIMIZER)
def test_a_run_that_is_killed_twenty_times_in_its_writes_ends_at_the_same_weights(
    name: str, tmp_path: Path
) -> None:
    killer = [sys.executable, "-m", "tests.checkpoint.killer", tmp_path / name, "20", "0"]
    done = subprocess.run(
        killer,
        cwd=HOME,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["steps"]) == 21
    assert found["steps"] == sorted(found["steps"])  # no save is ever lost
    assert found["in a write"] >= 5, "the kills missed the writes"
    assert found["weights"] == fingerprint(go_on(tmp_path / f"whole{name}", found["steps"][-1]))


@pytest.mark.parametrize(
    ("model", "optimizer", "match"),
    [
        (None, None, "of a network or a torch module, got NoneType"),
        ({"weight": 1}, None, "of a network or a torch module, got dict"),
        (Linear(2, 2), Linear(2, 2), "a torch optimizer after the model, got Linear"),
        (Linear(2, 2), {"step": 3}, "pass anything else by name"),
    ],
    ids=["None", "dict", "a second model", "a dict for the optimizer"],
)
def test_what_is_not_of_a_checkpoint_is_refused(
    model: object, optimizer: object, match: str, tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, Linear(2, 2))
    before = path.read_bytes()
    for act in (checkpoint.save, checkpoint.load):
        with pytest.raises(TypeError, match=match):
            act(path, model, optimizer)  # type: ignore[arg-type]  # refused by checkers as well
    assert path.read_bytes() == before
