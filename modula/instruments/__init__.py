"""Instruments: functions that take a network and data, and measure whether the theory holds there.

They return plain dataclasses. Each prints as a table, plots itself with matplotlib (`pip install
'modula-torch[plots]'`), and gives its numbers by name.
"""

from modula.instruments.alignment import Alignment, AlignmentReport, alignment
from modula.instruments.calibrate import CalibrationReport, Change, calibrate
from modula.instruments.feature_learning import FeatureLearningReport, Share, feature_learning
from modula.instruments.log import Log, ScalarWriter
from modula.instruments.logits import HasLogits, Logit, LogitsReport, logits
from modula.instruments.mass_sweep import MassSweep, Point, Run, mass_sweep
from modula.instruments.momentum_error import (
    AverageError,
    MomentumErrorReport,
    momentum_error,
)
from modula.instruments.movement import Movement, MovementReport, movement
from modula.instruments.radii import RadiiReport, Size, radii
from modula.instruments.report import Report, Row
from modula.instruments.sensitivity import SensitivityReport, Stretch, sensitivity
from modula.instruments.spectra import SpectraReport, Spectrum, spectra
from modula.instruments.watch import Moment, Recorder, Watch, watch
from modula.instruments.well_normed import Bounds, WellNormedReport, well_normed

__all__ = [
    "Alignment",
    "AlignmentReport",
    "AverageError",
    "Bounds",
    "CalibrationReport",
    "Change",
    "FeatureLearningReport",
    "HasLogits",
    "Log",
    "Logit",
    "LogitsReport",
    "MassSweep",
    "Moment",
    "MomentumErrorReport",
    "Movement",
    "MovementReport",
    "Point",
    "RadiiReport",
    "Recorder",
    "Report",
    "Row",
    "Run",
    "ScalarWriter",
    "SensitivityReport",
    "Share",
    "Size",
    "SpectraReport",
    "Spectrum",
    "Stretch",
    "Watch",
    "WellNormedReport",
    "alignment",
    "calibrate",
    "feature_learning",
    "logits",
    "mass_sweep",
    "momentum_error",
    "movement",
    "radii",
    "sensitivity",
    "spectra",
    "watch",
    "well_normed",
]
