"""What the gradients of a training's objectives did to one another, epoch by epoch."""

import torch
from torch import Tensor, nn

from compatlib.methods.sfsc import Step


class GradientStatistics(nn.Module):
    """Sums over the steps of every epoch; buffers, so that a checkpoint keeps them and a resumed run goes on with them.

    Called with every step's `Step`. Read by its properties, all of which are means over an epoch's steps: m objectives
    in the order of `names`, (epochs, …). A pair conflicts where its inner product is negative; the update hurts an
    objective where its inner product with that objective's gradient is.

    Args:
        names: the objectives.
        tensors: names of the tensors that they share.
        epochs: of the training.
        steps: of an epoch.
    """

    def __init__(self, names: tuple[str, ...], tensors: tuple[str, ...], epochs: int, steps: int) -> None:
        super().__init__()
        self.names, self.tensors, self.steps = tuple(names), tuple(tensors), steps
        m = len(names)
        self.register_buffer("_taken", torch.zeros((), dtype=torch.int64))
        for name, shape in {
            "_norm": (m,),
            "_uncertainty": (m,),
            "_cosine": (m, m),
            "_conflicts": (m, m),
            "_tensor_conflicts": (len(tensors), m, m),
            "_hurt": (m,),
            "_hurt_any": (),
        }.items():
            self.register_buffer(name, torch.zeros((epochs, *shape)))

    def forward(self, step: Step) -> None:
        """Add a step.

        Raises:
            ValueError: objectives other than those that were announced.
        """
        if step.names != self.names:
            raise ValueError(f"the step's objectives are {step.names}, announced were {self.names}")
        epoch = int(self._taken) // self.steps
        gram = step.gram
        norm = gram.diagonal().clamp(min=0).sqrt()
        scale = norm[:, None] * norm
        self._norm[epoch] += norm
        self._uncertainty[epoch] += gram.new_tensor([step.uncertainty[name] for name in self.names])
        self._cosine[epoch] += torch.where(scale > 0, gram / scale.clamp(min=1e-30), 0.0)
        self._conflicts[epoch] += gram < 0
        self._tensor_conflicts[epoch] += step.grams < 0
        hurt = step.products < 0
        self._hurt[epoch] += hurt
        self._hurt_any[epoch] += hurt.any()
        self._taken += 1

    @property
    def norm(self) -> Tensor:
        """(epochs, m) of the gradients over all shared tensors."""
        return self._mean(self._norm)

    @property
    def uncertainty(self) -> Tensor:
        """(epochs, m) of K / S."""
        return self._mean(self._uncertainty)

    @property
    def cosine(self) -> Tensor:
        """(epochs, m, m) between the gradients over all shared tensors."""
        return self._mean(self._cosine)

    @property
    def conflicts(self) -> Tensor:
        """(epochs, m, m): share of steps in which a pair conflicts over all shared tensors."""
        return self._mean(self._conflicts)

    @property
    def tensor_conflicts(self) -> Tensor:
        """(epochs, tensors, m, m): share of steps in which a pair conflicts in one tensor."""
        return self._mean(self._tensor_conflicts)

    @property
    def hurt(self) -> Tensor:
        """(epochs, m): share of steps whose update hurts an objective."""
        return self._mean(self._hurt)

    @property
    def hurt_any(self) -> Tensor:
        """(epochs,): share of steps whose update hurts one objective or more."""
        return self._mean(self._hurt_any)

    def _mean(self, sums: Tensor) -> Tensor:
        """Of an epoch that was begun, over the steps that it has; NaN of one that was not."""
        epochs = torch.arange(len(sums), device=sums.device)
        taken = (self._taken - epochs * self.steps).clamp(0, self.steps)
        return sums / taken.view(-1, *[1] * (sums.ndim - 1))
