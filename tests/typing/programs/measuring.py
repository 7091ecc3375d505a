"""Instruments, the laws of `modula.testing`, checkpoints, geometries, and layers on processes."""

import tempfile
from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ParallelStyle

from modula import RMS, Gradient, Linear, Linf, Module, ReLU, SteepestDescent, Update, checkpoint
from modula.geometry import Spectral, Vectors, register
from modula.instruments import (
    AlignmentReport,
    FeatureLearningReport,
    LogitsReport,
    MovementReport,
    RadiiReport,
    SensitivityReport,
    SpectraReport,
    WellNormedReport,
    alignment,
    feature_learning,
    logits,
    movement,
    radii,
    sensitivity,
    spectra,
    well_normed,
)
from modula.parallel import tensor_parallel_plan
from modula.polar import SVD
from modula.testing import (
    Ratios,
    check_atom,
    check_bond,
    check_geometry,
    check_method,
    check_network,
    check_norm,
)

model: Module[RMS, RMS] = Linear(4, 8) @ ReLU() @ Linear(8, 4)
optimizer = SteepestDescent(model, lr=0.1)
x = torch.randn(6, 4)
before = model.weights.clone()
gradient: Gradient = model.gradient(model(x).square().mean())
update: Update = model.dualize(gradient)

# Instruments take a network, and what they measure.
assert_type(feature_learning(model, update, x), FeatureLearningReport)
assert_type([row.mass_share for row in feature_learning(model, update, x)], list[float])
assert_type([row.share for row in feature_learning(model, update, x)], list[float | None])
assert_type(movement(before, model.weights), MovementReport)
assert_type([row.path for row in movement(before, model.weights)], list[str])
assert_type([row.norm for row in movement(before, model.weights)], list[float | None])
assert_type(alignment(model, x, update), AlignmentReport)
assert_type(spectra(update), SpectraReport)
assert_type(spectra(gradient), SpectraReport)
assert_type(spectra(model.weights), SpectraReport)
assert_type(sensitivity(model, x, steps=2, directions=1), SensitivityReport)
assert_type(well_normed(model, x, steps=2), WellNormedReport)
assert_type(radii(model), RadiiReport)
assert_type(radii(model, x), RadiiReport)
assert_type(logits(model, x), LogitsReport)
feature_learning(model, gradient, x)  # E: what moves the weights is an update
feature_learning(nn.Linear(4, 4), update, x)  # E: a module of torch is no network
movement(before, update)  # E: weights are compared with weights
movement(gradient, gradient)  # E: weights are compared with weights
alignment(model, update, x)  # E: the input comes first
spectra(torch.randn(4, 4))  # E: a tensor is no vector of a network
sensitivity(model)  # E: it is measured at an input
radii(update)  # E: an update is no network

# The laws of parts.
assert_type(check_bond(ReLU(), x), Ratios)
assert_type(check_atom(Linear(4, 4), x), Ratios)
assert_type(check_atom(Linear(4, 4), x).weights, float | None)
assert_type(check_geometry(Spectral(RMS, RMS), (4, 4)), float | None)
assert_type(check_network(model, x), float | None)
assert_type(check_method("svd"), float)
assert_type(check_method(SVD()), float)
check_bond(Linear(4, 4), x)  # E: an atom is no bond
check_atom(ReLU(), x)  # E: a bond is no atom
check_norm(RMS())  # E: a norm type is a class
check_method("qr")  # E: no such method
check_method(SVD)  # E: a class is no method

# Checkpoints.
folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "last.pt")
checkpoint.save(path, model, optimizer, step=3)
assert_type(checkpoint.load(path, model, optimizer), dict[str, object])
checkpoint.load(path, model, update)  # E: an update is no optimizer
checkpoint.save(path, optimizer)  # E: the network comes first
checkpoint.load(path)  # E: into which network?
folder.cleanup()

# Pairs of norms, and networks on several processes.
register(RMS, int, Spectral(RMS, RMS))  # E: a number is no norm type
register(RMS, Linf, Vectors)  # E: a class is no geometry
assert_type(tensor_parallel_plan(model), dict[str, ParallelStyle])
assert_type(Spectral(RMS, RMS).norm(torch.randn(1, 4, 4)), Tensor)
Spectral(RMS, RMS).norm(update)  # E: a geometry measures a tensor
