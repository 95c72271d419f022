"""What a chapter's `measure` returns to its page, and to `study.measure`, which publishes it."""

from dataclasses import dataclass

from compatlib.study import models
from compatlib.study.artifacts import Artifact
from compatlib.study.rows import Rows


@dataclass(frozen=True)
class Measured:
    """Rows of all seeds, models by "name, seed s", digests of the images."""

    rows: Rows
    models: dict[str, Artifact]
    data: dict[str, str]

    @property
    def base_models(self) -> dict[str, Artifact]:
        """Those of roles alone, trained apart."""
        return {name: model for name, model in self.models.items() if name.rpartition(", seed ")[0] in models.ROLES}

    @property
    def to_publish(self) -> dict[str, Artifact]:
        """All of them: whoever measures something else of them need not train for hours."""
        return self.models
