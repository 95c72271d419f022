"""What the chapter *Dual-Tuning* measures: upgrades by prototypes and swapped classifiers, and by its baselines.

The paper aligns signed embeddings. So old and new end in the signed head here, whatever the profile's networks end in:
every row's variant begins with the head, and a few rows have the other one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from compatlib.models.resnet import HEADS
from compatlib.study.chapters.dual_tuning.reidentification import Reidentification
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.changes import CHANGES, SAME_ENCODER
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL, OPEN_SET
from compatlib.study.lab.measures import chance, change, curve, mean_scores, rank_1, scores
from compatlib.study.lab.orders import RANDOM
from compatlib.study.lab.spaces import ClassMeans, Labels, Mixed, Of
from compatlib.study.lab.trainables import Base, Trainable, upgraded
from compatlib.study.lab.trainables.upgrades import INDEPENDENT, ByMethod
from compatlib.study.lab.trainables.upgrades import METHODS as TRAINED
from compatlib.study.lab.upgrade_cases import upgrade_cases
from compatlib.study.settings import MethodKnobs, Settings, methods, tables

# "settings": D1 where old and new differ in more than the classes. "weights": D2's sensitivity. "outliers": D4's.
# "open": D1 and D3 on unseen identities. "head": D1 with the other head; "draws": with other classes as the old ones.
TABLES = ("D1", "settings", "D2", "weights", "D3", "D4", "outliers", "open", "head", "draws")
QUICK = ("laptop", "smoke")  # what a page measures while it is built
TABLES_OF = {
    "study": ("D1", "settings", "D2"),
    "large": ("D1",),
    **dict.fromkeys(QUICK, ("D1", "settings", "D2", "D3", "D4", "outliers", "open", "head")),
}
DUAL, DUAL_DISTANCE = "Dual-Tuning", "Dual-Tuning, distance"
PROTOTYPES, MUTUAL = "prototypes", "mutual"
METHODS = (
    INDEPENDENT,
    "L2",
    "CE + distance",
    "two-way triplet",
    "distillation",
    "BCT A",
    MUTUAL,
    PROTOTYPES,
    "prototypes, distance",
    DUAL,
    DUAL_DISTANCE,
)
HEADLINE = (INDEPENDENT, "L2", "BCT A", DUAL)  # of every seed; with the other head, by share of old items, by draw
FEW = (INDEPENDENT, "L2", "BCT A", PROTOTYPES, DUAL)
# Where heads are trained at the papers' level all methods are compared in every setting and on both splits.
THOROUGH = ("heads",)
SIGNED = "linear_bn"
(NON_NEGATIVE,) = set(HEADS) - {SIGNED}
OWN = f"head={SIGNED}"  # the variant of every row but those of the other head
OTHER_HEAD = f"head={NON_NEGATIVE}"
RELEASE, IN_RANDOM_ORDER = f"{OWN};weights=release", f"{OWN};order=random"
SMALLER_ENCODER, SMALLER = "a smaller encoder", "a smaller network"
LARGER, OTHER_LOSS = "a wider and deeper network", "softmax to ArcFace"
DRAWS = (1, 2, 3, 4)  # of the old classes, besides the data set's own order
# D2 at the release's weights: what each term gives alone, and what all give together.
PARTS: dict[str, Trainable] = {
    PROTOTYPES: upgraded(PROTOTYPES),
    "prototypes, distance": upgraded("prototypes, distance"),
    "old to new": upgraded(DUAL, weight=0.0, terms={"new_to_old": 0.0}),
    "new to old": upgraded(DUAL, weight=0.0, terms={"old_to_new": 0.0}),
    MUTUAL: upgraded(MUTUAL),
    DUAL: upgraded(DUAL),
    DUAL_DISTANCE: upgraded(DUAL_DISTANCE),
}
# Of the whole method's two weights, each with the other as in the release.
OF_PROTOTYPES, OF_MUTUAL = "weight of the prototypes", "weight of both mutual terms"
WEIGHTS = {OF_PROTOTYPES: (0.001, 0.01, 0.1, 1.0), OF_MUTUAL: (0.05, 0.2, 1.0, 5.0)}
HALFWAY = "halfway to Dual-Tuning"
# By the share of the old model's training images that bear a wrong label: the old role.
OUTLIERS = {0.0: "old", 0.2: "old_mislabelled_20", 0.4: "old_mislabelled_40"}
SHARE_OF_OUTLIERS = "share of mislabelled old images"
ON_OUTLIERS = (INDEPENDENT, "L2", "CE + distance", PROTOTYPES, "prototypes, distance", DUAL)


class Knobs(MethodKnobs):
    """The page's own parameters: the distance, and the tables (such as "D1,D3") and methods of D1 to measure.

    weights: by method, of the compatibility term, of the whole method that of the prototypes, where the profile's
    tuning found others than `upgrades.METHODS` has. mutual: by whole method, of both mutual terms. open_weights,
    open_mutual: the same on the open-set split, where they differ. reidentification: the released recipe, of which no
    row is made.
    """

    chapter: ClassVar[str] = "dual_tuning"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF
    all_methods: ClassVar[tuple[str, ...]] = METHODS
    distance: Literal["cosine", "euclidean"] = "cosine"
    weights: ByMethod = ()
    mutual: ByMethod = ()
    open_weights: ByMethod = ()
    open_mutual: ByMethod = ()
    reidentification: Reidentification | None = None


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """The headline for every seed, all else for the sweeps' seeds."""
    yield from under(_signed(run, seed), with_head(run, SIGNED))
    if "head" in tables(run) and seed in run.sweep_seeds:
        yield from under(main_cases(run, of(run, HEADLINE), variant=OTHER_HEAD), with_head(run, NON_NEGATIVE))
    for split in (CLASS_INCREMENTAL, OPEN_SET) if "open" in tables(run) else (CLASS_INCREMENTAL,):
        yield case(Labels(), Labels(), chance, split=split, method="chance", distance=run.knobs.distance)


def _signed(run: Settings, seed: int) -> Iterator[Case]:
    """All that has the signed head."""
    is_swept, wanted = seed in run.sweep_seeds, tables(run)
    yield from main_cases(run, methods(run) if is_swept else of(run, HEADLINE))
    if "D4" in wanted:
        yield from prototype_cases(run, methods(run) if is_swept else of(run, HEADLINE))
    if not is_swept:
        return
    compared = methods(run) if run.profile in THOROUGH else of(run, FEW)
    if {INDEPENDENT, DUAL} <= set(methods(run)):
        yield halfway_case(run)
    if "settings" in wanted:
        yield from setting_cases(run, compared)
    if "D2" in wanted:
        for words, what in PARTS.items():
            yield from upgrade_cases(run, words, Base("old"), what, variant=RELEASE)
    if "weights" in wanted:
        yield from weight_cases(run)
    if "D3" in wanted:
        yield from curve_cases(run, CLASS_INCREMENTAL)
    if "outliers" in wanted:
        yield from outlier_cases(run)
    if "open" in wanted:
        yield from main_cases(run, compared, "old_open", "new_open", split=OPEN_SET)
        if "D3" in wanted:
            yield from curve_cases(run, OPEN_SET)
    for draw in DRAWS if "draws" in wanted else ():
        yield from under(main_cases(run, of(run, HEADLINE), variant=f"{OWN};draw={draw}"), {"draw": draw})


def of(run: Settings, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some methods that the run measures."""
    return tuple(name for name in names if name in methods(run))


def with_head(run: Settings, head: str) -> dict[str, str]:
    """Changes of a run, so that its networks end in this head; none where they do."""
    return {} if run.network.head == head else {"network.head": head, "small_network.head": head}


def upgrade(
    run: Settings, method: str, old: str = "old", new: str = "new", split: str = CLASS_INCREMENTAL
) -> Trainable:
    """The successor by a method, with the weights that the profile's tuning found."""
    weights, mutual = dict(run.knobs.weights), dict(run.knobs.mutual)
    if split == OPEN_SET:
        weights, mutual = weights | dict(run.knobs.open_weights), mutual | dict(run.knobs.open_mutual)
    if method == INDEPENDENT:
        return Base(new)
    terms = dict.fromkeys(TRAINED[method].terms, mutual[method]) if method in mutual else {}
    return upgraded(method, Base(old), new, weights.get(method), terms)


def main_cases(
    run: Settings,
    compared: tuple[str, ...],
    old: str = "old",
    new: str = "new",
    *,
    split: str = CLASS_INCREMENTAL,
    variant: str = OWN,
) -> Iterator[Case]:
    """Table D1: every method of one upgrade."""
    for method in compared:
        successor = upgrade(run, method, old, new, split)
        yield from upgrade_cases(run, method, Base(old), successor, split=split, variant=variant)


def halfway_case(run: Settings) -> Case:
    """The mean of Dual-Tuning's cross-test and that of models trained apart: half of what the whole method gains."""
    pairs = tuple((Of(upgrade(run, method)), Of(Base("old"))) for method in (INDEPENDENT, DUAL))
    columns = {"method": HALFWAY, "query_model": "new", "gallery_model": "old", **_place(run)}
    return Case(pairs, (mean_scores,), columns)


def settings_of(run: Settings) -> dict[str, tuple[str, str, Mapping[str, Any]]]:
    """What else old and new differ in, or do not: words for a row, the old role, the new one, changes of the run."""
    found: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
    if run.encoders:
        old, new = run.encoders.old, run.encoders.new
        found[SAME_ENCODER] = ("old", "new", {"encoders.new": old})
        found[SMALLER_ENCODER] = ("old", "new", {"encoders.old": new, "encoders.new": old})
    found[LARGER] = (*CHANGES[LARGER], {})
    found[SMALLER] = ("old", "small", {})
    found[OTHER_LOSS] = (*CHANGES[OTHER_LOSS], {})
    wanted = (SAME_ENCODER, OTHER_LOSS) if run.profile in (*QUICK, "study") else found
    return {words: what for words, what in found.items() if words in wanted}


def setting_cases(run: Settings, compared: tuple[str, ...]) -> Iterator[Case]:
    """Table D1 in the other settings."""
    for words, (old, new, changes) in settings_of(run).items():
        yield from under(main_cases(run, compared, old, new, variant=f"{OWN};{words}"), changes)


def weight_cases(run: Settings) -> Iterator[Case]:
    """Table D2, second part: the whole method by each of its weights."""
    for name, weights in WEIGHTS.items():
        for weight in weights:
            own = {"weight": weight} if name == OF_PROTOTYPES else {"terms": dict.fromkeys(TRAINED[DUAL].terms, weight)}
            columns = {"variant": RELEASE, "x_name": name, "x": weight}
            yield from upgrade_cases(run, DUAL, Base("old"), upgraded(DUAL, **own), **columns)


def curve_cases(run: Settings, split: str) -> Iterator[Case]:
    """Plot D3: new queries while a gallery's old embeddings are replaced by new ones, in a random order."""
    old, new = ("old_open", "new_open") if split == OPEN_SET else ("old", "new")
    for method in of(run, HEADLINE):
        own = Of(upgrade(run, method, old, new, split))
        names = {"method": method, "query_model": "new", "gallery_model": "mixed", **_place(run, split)}
        yield case(own, Mixed(Of(Base(old)), own, RANDOM), curve, **names | {"variant": IN_RANDOM_ORDER})


def prototype_cases(run: Settings, compared: tuple[str, ...]) -> Iterator[Case]:
    """Plot D4: whether an embedding's nearest old prototype is that of its class, of old queries and of new ones."""
    queries = {(method, "new"): upgrade(run, method) for method in compared}
    if INDEPENDENT in compared:
        queries[INDEPENDENT, "old"] = Base("old")
    for (method, query), what in queries.items():
        names = {"method": method, "query_model": query, "gallery_model": "old means", **_place(run)}
        yield case(Of(what), ClassMeans(Base("old")), rank_1, **names)


def outlier_cases(run: Settings) -> Iterator[Case]:
    """D4's second part: upgrades of old models that were trained with a share of wrong labels, and what they lose.

    The new model's labels are right. The share 0 is D1's own upgrade.
    """
    clean = Base("old")
    shares = (0.0, max(OUTLIERS)) if run.profile in QUICK else OUTLIERS
    for share, role in ((share, OUTLIERS[share]) for share in shares):
        old, place = Base(role), {**_place(run), "x_name": SHARE_OF_OUTLIERS, "x": share}
        for method in of(run, ON_OUTLIERS):
            after, before = {"new": upgrade(run, method, role), "old": old}, {"new": upgrade(run, method), "old": clean}
            # Of models trained apart the old one alone changes.
            for query, gallery in [("old", "old")] if method == INDEPENDENT else [("new", "old"), ("new", "new")]:
                pairs = tuple((Of(models[query]), Of(models[gallery])) for models in (after, before))
                names = {"method": method, "query_model": query, "gallery_model": gallery, **place}
                yield case(*pairs[0], scores, **names)
                if share:
                    yield Case(pairs, (change,), names)


def _place(run: Settings, split: str = CLASS_INCREMENTAL) -> dict[str, Any]:
    return {"split": split, "variant": OWN, "distance": run.knobs.distance}


CHAPTER = Chapter("dual_tuning", Knobs, cases)
