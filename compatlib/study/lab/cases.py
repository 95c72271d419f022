"""A case: which queries meet which gallery, under which columns its rows stand, and what is asked of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compatlib.study.lab import behaviours
from compatlib.study.lab.make import behaviours_of, with_ancestors
from compatlib.study.lab.spaces import Space
from compatlib.study.lab.trainables import Trainable
from compatlib.study.settings import Settings, changed

if TYPE_CHECKING:
    from compatlib.study.lab.seed import Seed

Rows = Iterator[dict[str, Any]]
BY_CLASS = "by_class"  # of a row that is a mean over all queries: the `ClassScores` behind it


@dataclass(frozen=True)
class Measure:
    """What is asked of a case: (seed, case) → rows, of which the case's own columns are left out.

    behaviours: which decide its numbers, besides those that make the vectors.
    """

    function: Callable[["Seed", "Case"], Rows]
    behaviours: tuple[str, ...]

    def __call__(self, seed: "Seed", case: "Case") -> Rows:
        """The rows."""
        return self.function(seed, case)


def measure(*names: str) -> Callable[[Callable[["Seed", "Case"], Rows]], Measure]:
    """Decorator: a function (seed, case) → rows that stands on these behaviours."""
    behaviours.versions(names)
    return lambda function: Measure(function, names)


@dataclass(frozen=True, eq=False)
class Case:
    """One or several pairs of a query space and a gallery space, and what is asked of them.

    pairs: most often one; several where their mean is asked for. ask: the measures. columns: of its rows; `split` and
    `distance` also say what is measured. before: whose self-test stood before an upgrade; the gallery's by default.
    changes: values of the run that are other here, by dotted name, as `settings.changed` takes them.
    """

    pairs: tuple[tuple[Space, Space], ...]
    ask: tuple[Measure, ...]
    columns: Mapping[str, Any]
    before: Space | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def query(self) -> Space:
        """Of the first pair."""
        return self.pairs[0][0]

    @property
    def gallery(self) -> Space:
        """Of the first pair."""
        return self.pairs[0][1]

    @property
    def split(self) -> str:
        """Which images are tested on, and which subsets of queries stand apart."""
        return self.columns["split"]

    @property
    def distance(self) -> str:
        """Under which retrieval scores are taken."""
        return self.columns["distance"]

    @property
    def spaces(self) -> tuple[Space, ...]:
        """All that it needs vectors of."""
        return (*(space for pair in self.pairs for space in pair), *([] if self.before is None else [self.before]))

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """All that it stands on, without what these are made from."""
        return tuple(dict.fromkeys(what for space in self.spaces for what in space.trainables))

    def run(self, run: Settings) -> Settings:
        """The run with this case's changes."""
        return changed(run, self.changes)

    def behaviours(self, run: Settings) -> dict[str, int]:
        """The numbers of all behaviours that its rows stand on, its models' too."""
        own = [name for each in self.ask for name in each.behaviours]
        own += [name for space in self.spaces for name in space.behaviours]
        found = behaviours.versions(["splits", *own])
        for what in with_ancestors(self.trainables):
            found |= behaviours_of(self.run(run), what)
        return dict(sorted(found.items()))


def case(query: Space, gallery: Space, *ask: Measure, before: Space | None = None, **columns: Any) -> Case:
    """A case of one pair."""
    return Case(((query, gallery),), ask, columns, before)


def under(cases: Iterable[Case], changes: Mapping[str, Any]) -> Iterator[Case]:
    """The same cases in a run with other values, by dotted name: a grid's place."""
    for each in cases:
        yield Case(each.pairs, each.ask, each.columns, each.before, {**each.changes, **changes})
