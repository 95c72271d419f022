"""The weight of every method's compatibility term where an upgrade names none.

The best of those tried on held-out training images (`chapters.bct_tuning`), but for BCT, whose claims are about
openBCT's λ = 1. They stand apart from `upgrades`, so that choosing one does not make the tuning's rows an earlier
version's.
"""

WEIGHTS = {
    "L2": 10.0,
    "CE + distance": 3.0,
    "triplet": 3.0,
    "triplet, raw": 1.0,
    "contrastive": 3.0,
    "distillation": 3.0,
    "BCT A": 1.0,
    "BCT B": 1.0,
    "BCT C": 1.0,
}
