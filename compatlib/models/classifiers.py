"""Classifiers over embeddings: linear, cosine and ArcFace. None has a bias; row k of `weight` stands for class k.

Logits are float32. Under autocast their product is computed in its type and converted behind; with `full_precision` it
is computed in float32 there too.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F


class LinearClassifier(nn.Module):
    """Logits W φ: the inner product of the embedding with every class's row.

    Bias-free, as in FCT's release, so that the rows alone say where a class lies. `weight` is (classes, dim).
    """

    def __init__(self, dim: int, classes: int, *, full_precision: bool = False) -> None:
        super().__init__()
        if dim < 1 or classes < 1:
            raise ValueError(f"a classifier needs dim ≥ 1 and classes ≥ 1, got {dim} and {classes}")
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.full_precision = full_precision

    def forward(
        self, embeddings: Float[Tensor, "batch dim"], labels: Int64[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Float32 logits; the labels are not used."""
        return self._product(F.linear, embeddings)

    def _product(self, product: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor) -> Tensor:
        """A product of the embeddings and the rows, float32."""
        if not self.full_precision:
            return product(embeddings, self.weight).float()
        with torch.autocast(embeddings.device.type, enabled=False):
            return product(embeddings.float(), self.weight.float())


class CosineClassifier(LinearClassifier):
    """Logits s · cos(W_k, φ), scale s fixed (16 by default; not published by the papers, our reading)."""

    def __init__(self, dim: int, classes: int, scale: float = 16.0, *, full_precision: bool = False) -> None:
        super().__init__(dim, classes, full_precision=full_precision)
        if not 0 < scale < math.inf:
            raise ValueError(f"the scale of the logits must be finite and positive, got {scale}")
        self.scale = scale

    def forward(
        self, embeddings: Float[Tensor, "batch dim"], labels: Int64[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Float32 logits in [−s, s]; the labels are not used."""
        return self.scale * self.cosine(embeddings)

    def cosine(self, embeddings: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """Cosine of every embedding with every class's row, float32 in [−1, 1]."""
        return self._product(_cosine, embeddings).clamp(-1, 1)


def _cosine(embeddings: Tensor, rows: Tensor) -> Tensor:
    return F.linear(F.normalize(embeddings), F.normalize(rows))


class ArcFaceClassifier(CosineClassifier):
    """Logits s · cos(θ_y + m) for the true class and s · cos θ_k for the others (Deng et al. 2019, equation 3).

    The margin m (radians) is added in training, when labels are given. Past θ + m = π, where cos(θ + m) would rise
    again, the logit goes on falling as cos θ − m sin(π − m), as in the authors' release.
    """

    def __init__(
        self, dim: int, classes: int, scale: float = 16.0, margin: float = 0.2, *, full_precision: bool = False
    ) -> None:
        super().__init__(dim, classes, scale, full_precision=full_precision)
        if not 0 <= margin < math.pi / 2:
            raise ValueError(f"the margin is an angle in [0, π/2) radians, got {margin}")
        self.margin = margin

    def forward(
        self, embeddings: Float[Tensor, "batch dim"], labels: Int64[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Float32 logits; with labels (N,) the true class carries the margin."""
        cosine = self.cosine(embeddings)
        if labels is None:
            return self.scale * cosine
        places = labels[:, None].long()  # torch gathers by no other type
        true = cosine.gather(1, places)
        # The root's slope is infinite at |cos| = 1, where a clamped sine keeps the gradient finite.
        sine = (1 - true.square()).clamp(min=1e-6).sqrt()
        moved = true * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = true < math.cos(math.pi - self.margin)
        moved = torch.where(beyond, true - self.margin * math.sin(math.pi - self.margin), moved)
        return self.scale * cosine.scatter(1, places, moved)
