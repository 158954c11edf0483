"""Measures of a study's evaluations, each with its section and figures in the report.

A measure of your own extends `Measure`; what its sections and figures are made of is here, too.
"""

from analysis.measures import (
    clean_accuracy,
    decay,
    detection,
    examples,
    interference,
    judge,
    last_evaluation,
    prediction,
    specificity,
    stage_decay,
)
from analysis.measures.axes import legend, panels, trajectories
from analysis.measures.base import Measure, Reading, load_file, registered
from analysis.measures.blocks import Block, Bullets, Heading, Paragraph, Table
from analysis.measures.drawing import Drawing

__all__ = [
    "Block",
    "Bullets",
    "Drawing",
    "Heading",
    "Measure",
    "Paragraph",
    "Reading",
    "Table",
    "clean_accuracy",
    "decay",
    "detection",
    "examples",
    "interference",
    "judge",
    "last_evaluation",
    "legend",
    "load_file",
    "panels",
    "prediction",
    "registered",
    "specificity",
    "stage_decay",
    "trajectories",
]
