"""What the chapter *CMP-NAS* measures: query models against a gallery model, by weights and by architecture.

Everything is tested on identities that no model was trained on (`open-set`). A query model's rows have `query` and
`gallery` as models, the gallery model's the method `paragon`.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.measures import (
    agreement,
    agreement_alone,
    chance,
    cost_saved,
    history,
    scores,
    size,
    training_seconds,
    whole_cost,
)
from compatlib.study.lab.spaces import Labels, Of, OfPath, Searched
from compatlib.study.lab.trainables import Architecture, Base, OnPath, PathSearch, SuperNetwork, Trainable, upgraded
from compatlib.study.lab.trainables.supernets import RANDOM, SEARCHES, SearchKnobs
from compatlib.study.lab.trainables.upgrades import ByMethod
from compatlib.study.settings import Settings, TableKnobs, tables

# "C1": objectives of level 1. "C2": rankings of random paths. "C3": rewards at equal evaluations and operations. "C4":
# score against operations. "C5": inherited scores beside those of networks trained alone.
TABLES = ("C1", "C2", "C3", "C4", "C5")
OWN, BOTH = "own classifier", "both"
# Level 1, by its words: the upgrade that trains it; none is the model of its role, trained apart.
OBJECTIVES = {
    OWN: "independent",
    "initialised": "initialised",
    "logit distillation": "logit distillation",
    "regression": "L2",
    "gallery classifier": "gallery term",
    BOTH: "BCT A",
}
PARAGON = "paragon"
QUERY, GALLERY = "query", "gallery"
FURTHER_ENCODERS = {"heads": ("lite1",)}  # of queries, besides the old roles' one
# Hand-made rivals of what is searched: one choice throughout, and the study's own networks by their roles.
UNIFORM = ("3@0.25", "3@0.5", "3@1", "7@1")
RESNETS = {"ResNet, small": "small_open", "ResNet": "query_open"}
RANDOM_PATHS = "random paths"
SECOND = 1  # the super-network whose noise is the ceiling
# Queries with a super-network's weights, in the rows of histories and of C5.
PATH, PATH_AGAIN, PATH_LEFT = "path", "path of a second super-network", "path, BatchNorm as it was left"
AS_LEFT = "batchnorm=left"


class Knobs(TableKnobs, SearchKnobs):
    """The page's own parameters: the distance, the tables to measure, and how super-networks are trained and searched.

    weights: by method of `upgrades.METHODS`, of level 1's terms; the whole objective's is the paper's 1. caps: most
    operations of a searched network's image, in millions; all rewards are compared under the first. alone_seeds: those
    whose random paths are trained alone too.
    """

    chapter: ClassVar[str] = "cmp_nas"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = {
        name: ("C1",) for name in ("heads", "laptop", "omniglot", "large", "study_signed")
    }
    distance: Literal["cosine", "euclidean"] = "cosine"
    weights: ByMethod = ()
    caps: tuple[Annotated[float, Field(gt=0)], ...] = Field((330.0,), min_length=1)
    alone_seeds: tuple[int, ...] = (0,)


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Level 1 for every seed; level 2 where networks see images; chance."""
    wanted = tables(run)
    yield from level_1_cases(run)
    if run.encoders is None:
        if "C2" in wanted or "C5" in wanted:
            yield from sample_cases(run, is_alone=seed in run.knobs.alone_seeds, wanted=wanted)
        if "C3" in wanted:
            yield from search_cases(run)
        if "C4" in wanted:
            yield from cost_cases(run)
        if "C5" in wanted:
            yield from inherited_cases(run)
    yield case(Labels(), Labels(), chance, split=OPEN_SET, method="chance", distance=run.knobs.distance)


def gallery(run: Settings) -> Base:
    """The gallery model: of heads a new model's, else a network of twice the widths."""
    return Base("new_open" if run.encoders or run.network.torchvision else "gallery_open")


def query_role(run: Settings) -> str:
    """Of level 1's query models: of heads one on the smaller encoder, else the smaller network."""
    return "query_open" if run.encoders else "small_open"


def query(run: Settings, objective: str, role: str | None = None) -> Trainable:
    """A query model of a role by an objective of level 1."""
    method = OBJECTIVES[objective]
    weight = None if objective == BOTH else dict(run.knobs.weights).get(method)
    return upgraded(method, gallery(run), role or query_role(run), weight)


def level_1_cases(run: Settings) -> Iterator[Case]:
    """Table C1: self-test and cross-test of every objective, and the paragon; of heads by every smaller encoder."""
    model = Of(gallery(run))
    yield case(model, model, scores, size, **names(run, PARAGON, query=GALLERY))
    if run.encoders:
        yield case(model, model, whole_cost, **names(run, PARAGON, query=GALLERY))
    for objective in OBJECTIVES:
        yield from query_cases(run, query(run, objective), objective)
    for encoder in FURTHER_ENCODERS.get(run.profile, ()):
        changes = {"encoders.old": encoder}
        for objective in OBJECTIVES:
            found = query_cases(run, query(run, objective), objective, variant=f"encoder={encoder}")
            yield from under(found, changes)


def query_cases(run: Settings, what: Trainable, method: str, **columns: Any) -> Iterator[Case]:
    """A query model on itself and on the gallery, its size, and the seconds of its training."""
    own, model = Of(what), Of(gallery(run))
    further = (whole_cost,) if run.encoders else ()
    yield case(own, own, scores, **names(run, method, query=QUERY, gallery=QUERY, **columns))
    yield case(own, model, scores, **names(run, method, query=QUERY, **columns))
    yield case(own, own, size, *further, training_seconds, **names(run, method, query=QUERY, **columns))


def names(run: Settings, method: str, *, query: str, gallery: str = GALLERY, **columns: Any) -> dict[str, Any]:
    """Columns of a test."""
    place = {"split": OPEN_SET, "distance": run.knobs.distance, **columns}
    return {"method": method, "query_model": query, "gallery_model": gallery, **place}


def network(run: Settings, draw: int = 0) -> SuperNetwork:
    """The super-network of a run, or another one of the same kind."""
    return SuperNetwork(gallery(run), draw)


def random_paths(run: Settings, draw: int = 0, *, is_recalibrated: bool = True) -> PathSearch:
    """Random paths scored with a super-network's weights: the same ones by every super-network of a seed."""
    return PathSearch(network(run, draw), RANDOM, paths=run.knobs.paths, is_recalibrated=is_recalibrated)


def search(run: Settings, by: str, cap: float) -> PathSearch:
    """A search under a cap."""
    return PathSearch(network(run), by, cap)


def sample_cases(run: Settings, *, is_alone: bool, wanted: tuple[str, ...]) -> Iterator[Case]:
    """C2 and C5: random paths by inherited weights, what two super-networks agree in, the first few trained alone."""
    own, again = (Searched(random_paths(run, draw)) for draw in (0, SECOND))
    place = {"split": SEARCHED, "method": RANDOM_PATHS}
    yield case(own, own, history, **place, query_model=PATH)
    if "C2" in wanted:
        yield case(again, again, history, **place, query_model=PATH_AGAIN)
        yield case(own, again, agreement, **place)
    if not is_alone:
        return
    left = Searched(random_paths(run, is_recalibrated=False))
    if "C5" in wanted:
        yield case(left, left, history, **place, query_model=PATH_LEFT)
    model, trained = Of(gallery(run)), [Of(what) for what in trained_alone(run)]
    pairs = tuple((each, model) for each in trained)
    for number, each in enumerate(trained, 1):
        yield case(each, each, scores, **names(run, RANDOM_PATHS, query=str(number), gallery=str(number)))
        yield case(each, model, scores, **names(run, RANDOM_PATHS, query=str(number)))
    for split in (OPEN_SET, SEARCHED):
        columns = {"method": RANDOM_PATHS, "split": split, "distance": run.knobs.distance}
        yield Case(((own, own), *pairs), (agreement_alone,), columns)
        if "C5" in wanted:
            yield Case(((left, left), *pairs), (agreement_alone,), columns | {"variant": AS_LEFT})


def trained_alone(run: Settings) -> list[OnPath]:
    """The first few random paths, each trained by itself."""
    sample = random_paths(run)
    count = min(run.knobs.alone, run.knobs.paths)
    return [OnPath(Architecture(search=sample, number=number), gallery(run)) for number in range(1, count + 1)]


def searched_networks(run: Settings) -> dict[tuple[str, float], Architecture]:
    """What the searches found, by reward and cap: all under the first, under the others R2, which sees the gallery."""
    first, *others = run.knobs.caps
    wanted = [(by, first) for by in SEARCHES] + [("R2", cap) for cap in others]
    return {(by, cap): Architecture(search=search(run, by, cap)) for by, cap in wanted}


def search_cases(run: Settings) -> Iterator[Case]:
    """Table C3: every search's history, and what it found, trained from scratch."""
    for (by, cap), found in searched_networks(run).items():
        space, cap_is = Searched(found.search), cap_in_words(cap)
        yield case(space, space, history, split=SEARCHED, method=by, query_model=f"{PATH}, {cap_is}")
        yield from query_cases(run, OnPath(found, gallery(run)), by, variant=cap_is)


def cap_in_words(cap: float) -> str:
    """The variant of a search's rows, such as "cap=6"."""
    return f"cap={cap:g}"


def hand_made(run: Settings) -> dict[str, Trainable]:
    """Query networks that nobody searched, by their names, trained as the searched ones or, ResNets, as all."""
    uniform = [choice for choice in UNIFORM if choice.partition("@")[0] in run.knobs.blocks.kinds]
    found: dict[str, Trainable] = {
        f"{choice} throughout": OnPath(Architecture(choice), gallery(run)) for choice in uniform
    }
    return found | {words: query(run, BOTH, role) for words, role in RESNETS.items()}


def cost_cases(run: Settings) -> Iterator[Case]:
    """C4: hand-made networks, and what share of the gallery model's operations they and the searched ones save."""
    rivals = hand_made(run)
    for words, what in rivals.items():
        yield from query_cases(run, what, words)
    found = [OnPath(each, gallery(run)) for (by, _), each in searched_networks(run).items() if by in ("R2", "R3")]
    model = Of(gallery(run))
    for words, whats in {"hand-made": rivals.values(), "searched": found}.items():
        pairs = ((model, model), *((Of(what), model) for what in whats))
        yield Case(pairs, (cost_saved,), names(run, words, query=QUERY))


def inherited_cases(run: Settings) -> Iterator[Case]:
    """C5: what is searched and what is hand-made, with the super-network's weights, BatchNorm recalibrated or left."""
    model, own = Of(gallery(run)), {}
    for (by, cap), found in searched_networks(run).items():
        own[by, cap_in_words(cap)] = found
    for words, what in hand_made(run).items():
        if isinstance(what, OnPath):
            own[words, ""] = what.architecture
    for (method, variant), architecture in own.items():
        for is_recalibrated, words in ((True, PATH), (False, PATH_LEFT)):
            space = OfPath(network(run), architecture, is_recalibrated)
            yield case(space, model, scores, **names(run, method, query=words, variant=variant))


CHAPTER = Chapter("cmp_nas", Knobs, cases)
