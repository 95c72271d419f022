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
from compatlib.study.lab.measures.paths import (
    agreement,
    agreement_alone,
    cost_saved,
    history,
    mean_history,
    whole_cost,
)
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
    "agreement",
    "agreement_alone",
    "answers",
    "chance",
    "change",
    "collapse",
    "correlation",
    "cost_saved",
    "curve",
    "curve_area",
    "flips",
    "gradients",
    "gradients_by_epoch",
    "gradients_by_tensor",
    "history",
    "image_speed",
    "index",
    "kept_bytes",
    "likeness",
    "mean_history",
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
    "whole_cost",
]
