"""What can be asked of a case: functions (seed, case) → rows, each with the behaviours that decide its numbers."""

from compatlib.study.lab.measures.backfilling import answers, correlation, curve, curve_area
from compatlib.study.lab.measures.classifier import old_classifier
from compatlib.study.lab.measures.cost import (
    image_speed,
    index,
    kept_bytes,
    size,
    training_seconds,
    transformation_speed,
)
from compatlib.study.lab.measures.gradients import gradients, gradients_by_epoch, gradients_by_tensor
from compatlib.study.lab.measures.scores import (
    chance,
    change,
    flips,
    mean_scores,
    popularity,
    rank_1,
    scores,
    threshold,
)
from compatlib.study.lab.measures.vectors import collapse, likeness
from compatlib.study.lab.measures.widths import row_space_energy, training_accuracy

__all__ = [
    "answers",
    "chance",
    "change",
    "collapse",
    "correlation",
    "curve",
    "curve_area",
    "flips",
    "gradients",
    "gradients_by_epoch",
    "gradients_by_tensor",
    "image_speed",
    "index",
    "kept_bytes",
    "likeness",
    "mean_scores",
    "old_classifier",
    "popularity",
    "rank_1",
    "row_space_energy",
    "scores",
    "size",
    "threshold",
    "training_accuracy",
    "training_seconds",
    "transformation_speed",
]
