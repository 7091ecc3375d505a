"""Damage of any byte is found, in every format, whatever was there before."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import Linear, checkpoint
from modula.checkpoint import CheckpointError
from modula.checkpoint.seal import check_seal
from tests.checkpoint.whole import FORMATS, files, numbers, run_at, save_at, step_of


def test_every_flipped_bit_of_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    checkpoint.save(path, Linear(1, 1))
    data = bytearray(path.read_bytes())
    missed = []
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        try:
            check_seal(io.BytesIO(data), path)
        except CheckpointError:
            pass
        else:
            missed.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    assert not missed


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_bit_in_each_file_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save_at(path, 1.0)
    for file in files(path):
        whole = file.read_bytes()
        for at in range(0, len(whole), 293):
            data = bytearray(whole)
            data[at] ^= 1 << at % 8
            file.write_bytes(data)
            run = run_at(-1.0, path)
            with pytest.raises(CheckpointError):
                checkpoint.load(path, *run)
            assert numbers(run) == [-1.0]
        file.write_bytes(whole)
    assert step_of(path) == 1.0


def test_a_file_is_a_zip_archive_whose_checksum_is_its_comment(tmp_path: Path) -> None:
    import hashlib
    import zipfile

    checkpoint.save(tmp_path / "run.pt", Linear(2, 2))
    comment = zipfile.ZipFile(tmp_path / "run.pt").comment
    rest = (tmp_path / "run.pt").read_bytes()[: -len(comment) - 2] + bytes(2)
    assert comment.decode() == f"modula sha256 {hashlib.sha256(rest).hexdigest()}"


def test_a_file_saved_again_by_torch_loads(tmp_path: Path) -> None:
    save_at(tmp_path / "run.pt", 1.0)
    torch.save(torch.load(tmp_path / "run.pt", weights_only=True), tmp_path / "run.pt")
    assert step_of(tmp_path / "run.pt") == 1.0


MALFORMED = {
    "no dict of weights": {"model": 3},
    "names that are not strings": {"model": {0: torch.ones(2)}},
    "no dict of the optimizer": {"optimizer": [1]},
    "no groups of the optimizer": {"optimizer": {"state": {}}},
    "groups of another number": {"optimizer": {"state": {}, "param_groups": []}},
    "a state that is no dict": {"optimizer": {"state": {0: 1}, "param_groups": []}},
    "modules that are no dict": {"modula": {"modules": 3}},
    "settings that are no dicts": {"modula": {"settings": {"": 1}}},
    "coefficients that are text": {"modula": {"coefficients": {"0.weight": "1"}}},
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_file_with_a_malformed_entry_is_refused(kind: str, tmp_path: Path) -> None:
    """Only a file that something else wrote has one."""
    path = tmp_path / "run.pt"
    save_at(path, 1.0)
    state = torch.load(path, weights_only=True)
    for entry, value in MALFORMED[kind].items():
        state[entry] = {**state[entry], **value} if entry == "modula" else value
    torch.save(state, path)
    run = run_at(-1.0, path)
    with pytest.raises(CheckpointError):
        checkpoint.load(path, *run)
    assert numbers(run) == [-1.0]


@settings(max_examples=100)
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
@pytest.mark.parametrize("name", ["run.pt", "run.safetensors"])
def test_any_bytes_are_refused(
    name: str, data: bytes, start: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(start + data)
    with pytest.raises(CheckpointError):
        checkpoint.load(path, Linear(1, 1))


@pytest.mark.parametrize("change", ["without a checksum", "with another note"])
def test_safetensors_that_something_else_changed_are_refused(change: str, tmp_path: Path) -> None:
    torch_io = pytest.importorskip("safetensors.torch")
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "run.safetensors"
    checkpoint.save(path, Linear(2, 3), note="a")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if change == "without a checksum":
        del metadata["sha256"]
    else:
        metadata["extra"] = json.dumps({"note": "b"})
    torch_io.save_file(torch_io.load_file(path), path, metadata)
    with pytest.raises(CheckpointError, match=r"sha256|checksum"):
        checkpoint.load(path, Linear(2, 3))
