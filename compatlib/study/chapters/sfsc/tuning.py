"""Tuning for the chapter *SFSC*: the learning rate of every loss, the evidential one's logit scale and divergence.

One seed apart from the study's, a third of the epochs (all where heads are trained), the nine tenths of the training
images that are kept, tested on the tenth that is held out. A loss is tuned in its training without projection; the
projected one takes the same values. The divergence's weight is tuned where embeddings are signed, at one rate and every
scale; where heads are trained the open-set split is tuned by itself, on identities that are kept for it. A candidate is
judged by rank 1, in the mean of self-tests and cross-tests. Of the rates within half a point of the best the lowest is
taken; logit scale and divergence are those of the best. Of the closed split's test images none has a part in it; of the
open-set's test classes, training images were seen where the split is not tuned by itself.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import pandas as pd
from pydantic import Field

from compatlib.study.chapters.sfsc import plan
from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN, OWN_GALLERIES, score_cases, values_of
from compatlib.study.lab.cases import Case, under
from compatlib.study.lab.experiment import Chapter, validation
from compatlib.study.lab.images import CLOSED, OPEN_SET
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import BCT_S, JOINT, SWITCHABLE, WidthKnobs, rate_of
from compatlib.study.settings import Settings, changed, methods

TUNED = (JOINT, "Asymmetric-S", BCT_S, "BCT-S + uncertainty")
OPEN_SETS_OWN = (BCT_S, "BCT-S + uncertainty")  # tuned by themselves where heads are trained
RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
LOWER_RATES = (0.0125, 0.025)  # on the open-set split too, whose best stood at the lower end
LOGIT_SCALES = (1.0, 4.0, 16.0)
DIVERGENCES = (5e-3, 0.05, 0.5, 2.0)  # besides the published one, at the base models' rate
DIVERGENCE = ";divergence="  # what a variant with another weight than the published one says after the logit scale


class Knobs(plan.Knobs):
    """What is tried, and what is not tuned, such as the widths; a profile's own, not those that were chosen by it.

    rates: learning rates, ascending. logit_scales, divergences: of the evidential loss; divergences besides the
    published one.
    """

    chapter: ClassVar[str] = "sfsc_tuning"
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(RATES, min_length=1)
    logit_scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(LOGIT_SCALES, min_length=1)
    divergences: tuple[Annotated[float, Field(ge=0)], ...] = DIVERGENCES


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every loss with every rate, the evidential one with every scale and, where it may pay, every divergence."""
    is_signed = run.network.head == "linear_bn"
    for split, tuned in ((CLOSED, TUNED), (OPEN_SET, OPEN_SETS_OWN if run.encoders else ())):
        wanted = [each for each in tuned if each in methods(run)]
        for method, scale in [(each, scale) for each in wanted for scale in scales(run, each)]:
            variant, own = ("", {}) if scale is None else (f"{scale:g}", {"logit_scale": scale})
            for rate in (*(LOWER_RATES if split == OPEN_SET else ()), *run.knobs.rates):
                yield from candidate(run, method, rate, own, variant, split)
            for weight in run.knobs.divergences if is_signed and scale is not None else ():
                values, words = own | {"kl_weight": weight}, f"{variant}{DIVERGENCE}{weight:g}"
                yield from candidate(run, method, run.training.learning_rate, values, words, split)


def candidate(
    run: Settings, method: str, rate: float, values: dict[str, Any], variant: str, split: str = CLOSED, **changes: Any
) -> Iterator[Case]:
    """A training with one learning rate and other values of the evidential loss, by knob."""
    own = {f"knobs.{name}": value for name, value in {rate_of(method): rate, **values}.items()}
    place = {"variant": variant, "x_name": "learning rate", "x": rate}
    yield from under(score_cases(run, method, split, **place), own | changes)


def scales(run: Settings, method: str) -> tuple[float | None, ...]:
    """The logit scales that are tried; None where the loss has none."""
    return run.knobs.logit_scales if SWITCHABLE.get(method, ("",))[0] == "evidential" else (None,)


def judged(tuned: Rows, split: str = CLOSED) -> pd.Series:
    """What a candidate is chosen by, the highest the best: by (method, logit scale, rate), mean over seeds."""
    found = tuned.of(split=split, query_model=MEAN, gallery_model=[OWN_GALLERIES, FULL_GALLERY], metric="cmc@1")
    return found.groupby(["method", "variant", "x"])["value"].mean()


def evidential_values(variant: str) -> tuple[float, float]:
    """Logit scale and weight of the divergence that a candidate's variant says; 0 and 0 of other losses."""
    if not variant:
        return 0.0, 0.0
    scale, _, weight = variant.partition(DIVERGENCE)
    return float(scale), float(weight or WidthKnobs.model_fields["kl_weight"].default)


def is_chosen(run: Settings, method: str, variant: str, rate: float, split: str = CLOSED) -> bool:
    """Whether a run trains the method with these values on a split."""
    own = changed(run, values_of(run, split)).knobs
    values = (own.logit_scale, own.kl_weight)
    return own.learning_rate(method) == rate and (not variant or values == evidential_values(variant))


def prepared(run: Settings) -> Settings:
    """On held-out images; whole networks for a third of their epochs."""
    return validation(run, shortened=1 if run.encoders else 3)


CHAPTER = Chapter("sfsc_tuning", Knobs, cases, prepared, is_published=False)
