"""`python -m modula`: the report, and a self-test that fails where something is wrong."""

from __future__ import annotations

import pytest
import torch

from modula import __main__ as doctor

CPU = torch.device("cpu")


def test_the_report_names_versions_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--no-test"]) == 0
    printed = capsys.readouterr().out
    assert torch.__version__ in printed
    assert "GFLOP/s" in printed


def test_formats_are_compared_with_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(device: torch.device, dtype: torch.dtype) -> float:
        if dtype == torch.float16:
            raise RuntimeError("not implemented for 'Half'")
        return {torch.float32: 20.0, torch.bfloat16: 50.0}[dtype]

    monkeypatch.setattr(doctor, "rate", measured)
    line = doctor.describe(CPU)
    assert "float32 20.0 GFLOP/s" in line
    assert "bfloat16 2.50 times as fast" in line
    assert "float16 not supported" in line


@pytest.mark.parametrize(("name", "check"), doctor.CHECKS)
def test_a_check_passes_here(name: str, check: doctor.Check) -> None:
    assert doctor.passes(name, check, CPU)


def test_a_failure_is_reported_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(device: torch.device) -> str:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(doctor, "devices", lambda: [CPU])
    monkeypatch.setattr(doctor, "CHECKS", (("kernels", broken),))
    assert doctor.main([]) == 1
    assert "FAILED cpu kernels: RuntimeError: no such kernel" in capsys.readouterr().out


def test_wrong_factors_fail_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "orthogonalize", lambda G: 1.1 * G / G.norm())
    assert not doctor.passes("orthogonal factors", doctor.orthogonal_factors, CPU)
