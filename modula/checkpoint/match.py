"""Whether a checkpoint belongs to a model and an optimizer, decided before either is changed."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

import torch
from torch import Tensor

from modula.checkpoint.contents import Contents, State
from modula.checkpoint.description import (
    Description,
    Model,
    coefficients_of,
    describe,
    torch_module_of,
)
from modula.checkpoint.settings import TABLE
from modula.checkpoint.undoing import measured_as
from modula.checks import listed
from modula.errors import CheckpointError
from modula.network import Network


def check_match(contents: Contents, model: Model, optimizer: torch.optim.Optimizer | None) -> None:
    """Raise if a checkpoint is of another model, or of another optimizer or other coefficients.

    Raises:
        CheckpointError: the first difference.
    """
    saved, own = contents.description, describe(model, optimizer)
    _check_modules(saved["modules"], own["modules"])
    _check_settings(saved["settings"], own)
    _check_weights(contents.model, torch_module_of(model).state_dict())
    if optimizer is not None:
        _check_optimizer(contents, own)
        for part in ("operations", "geometries"):
            _check_operations(saved[part] or {}, own[part] or {})
        with measured_as(saved["measurements"] or {}, model):
            _check_coefficients(saved["coefficients"] or {}, coefficients_of(model) or {})


def is_same_network(saved: Description, model: Network) -> bool:
    """Return whether a network has the operations and norms of the saved one."""
    own = describe(model, None)
    return saved["operations"] == own["operations"] and saved["geometries"] == own["geometries"]


def _check_modules(saved: Mapping[str, str], own: Mapping[str, str]) -> None:
    for path in [*own, *saved]:
        theirs, ours = saved.get(path, "nothing"), own.get(path, "nothing")
        if theirs != ours:
            location = f"at {path!r} it has" if path else "it is"
            raise CheckpointError(
                f"the checkpoint is of another model: {location} {theirs} in the checkpoint and "
                f"{ours} here"
            )


def _check_settings(saved: Mapping[str, Mapping[str, str]], own: Description) -> None:
    """Raise if a setting differs.

    A private attribute that only one model has is not a setting: wrappers such as `fully_shard` set
    some, while a class sets its own in all its instances. Neither is a tensor that only one model
    has, such as a mask that the first run makes.
    """
    for path, module in own["modules"].items():
        theirs, ours = saved.get(path, {}), own["settings"][path]
        for name in [*ours, *theirs]:
            in_both = name in theirs and name in ours
            one_sided = not in_both and name.startswith("_")
            one_sided |= _is_table(theirs.get(name)) != _is_table(ours.get(name))
            if theirs.get(name) != ours.get(name) and not one_sided:
                location = f" at {path!r}" if path else ""
                raise CheckpointError(
                    f"the checkpoint is of another model: {name} of {module}{location} is "
                    f"{theirs.get(name, 'the default')} in the checkpoint and "
                    f"{ours.get(name, 'the default')} here"
                )


def _is_table(text: str | None) -> bool:
    return text is not None and text.startswith(TABLE)


def _check_operations(saved: Mapping[str, str], own: Mapping[str, str]) -> None:
    for path in [*own, *saved]:
        theirs, ours = saved.get(path, "nothing"), own.get(path, "nothing")
        if theirs != ours:
            raise CheckpointError(
                f"the checkpoint is of another network over the same modules: at {path!r} it has "
                f"{theirs} in the checkpoint and {ours} here. Make the network as it was made "
                "before, or load the weights alone: load(path, model)"
            )


def _check_weights(saved: State, own: State) -> None:
    missing = [name for name in own if name not in saved]
    unknown = [name for name in saved if name not in own]
    if missing or unknown:
        raise CheckpointError(
            f"the checkpoint is of another model: it lacks {listed(missing)}, and has "
            f"{listed(unknown)} that this one lacks"
        )
    for name, ours in own.items():
        theirs = saved[name]
        if _shape(ours) != _shape(theirs):
            raise CheckpointError(
                f"the checkpoint is of another model: {name!r} is {_shape(theirs)} in the "
                f"checkpoint and {_shape(ours)} here"
            )


def _check_optimizer(contents: Contents, own: Description) -> None:
    saved = contents.description
    if contents.optimizer is None:
        raise CheckpointError(
            "the checkpoint has no state of an optimizer: it was saved without one, so load it "
            "without one"
        )
    if saved["optimizer"] != own["optimizer"]:
        raise CheckpointError(
            f"the checkpoint is of another optimizer: {saved['optimizer']} in the checkpoint and "
            f"{own['optimizer']} here"
        )
    sizes = [len(group["params"]) for group in contents.optimizer["param_groups"]]
    if saved["parameters"] != own["parameters"] or sizes != [*map(len, own["parameters"] or [])]:
        raise CheckpointError(
            "the checkpoint is of an optimizer with other parameters, or with the same ones in "
            "another order or other groups"
        )


def _check_coefficients(saved: Mapping[str, float], own: Mapping[str, float]) -> None:
    """Raise if the coefficients differ, since a resumed run would take another direction."""
    for name, ours in own.items():
        theirs = saved.get(name, ours)
        if not isclose(theirs, ours, rel_tol=1e-9):
            raise CheckpointError(
                f"the coefficient of {name!r} is {theirs:.4g} in the checkpoint and {ours:.4g} "
                "here, because masses or sensitivities differ: restore them (model.tare), or load "
                "the weights alone: load(path, model)"
            )


def _shape(value: object) -> str:
    """The shape of a tensor, and the kind of its numbers unless it is that of a weight."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kind = "" if value.is_floating_point() else "complex " if value.is_complex() else "integer "
    return f"{kind}{list(value.shape)}"
