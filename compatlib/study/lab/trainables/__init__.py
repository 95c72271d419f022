"""What can be trained: frozen descriptions that do nothing by themselves; `lab.make` trains them or finds them."""

from compatlib.study.lab.trainables.base import Base, Trainable
from compatlib.study.lab.trainables.sides import Side, own_side
from compatlib.study.lab.trainables.supernets import Architecture, OnPath, PathSearch, SuperNetwork
from compatlib.study.lab.trainables.transformations import Transformation
from compatlib.study.lab.trainables.upgrades import METHODS, Method, Upgrade, upgraded
from compatlib.study.lab.trainables.widths import Narrow, Widths

__all__ = [
    "METHODS",
    "Architecture",
    "Base",
    "Method",
    "Narrow",
    "OnPath",
    "PathSearch",
    "Side",
    "SuperNetwork",
    "Trainable",
    "Transformation",
    "Upgrade",
    "Widths",
    "own_side",
    "upgraded",
]
