"""The only training loop: every method of the study hands its objective to `fit`."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from compatlib.checkpoints import State, read_checkpoint, write_checkpoint
from compatlib.data.augment import unchanged
from compatlib.data.images import Images, InMemory, batches
from compatlib.data.tensors import as_integers
from compatlib.evaluation import checks
from compatlib.files import alone

Loss = Tensor | Mapping[str, Tensor]
Objective = Callable[[Any, Tensor, Tensor], Iterable[tuple[str, Loss]]]
Gradients = list[Tensor | None]
Combine = Callable[[list[nn.Parameter], dict[str, Gradients]], Gradients]
Order = Callable[[int, int, torch.Generator], Tensor]
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    `learning_rate` rises linearly over `warmup_epochs`, or over `warmup_steps` where a recipe counts them, then follows
    `schedule`: `cosine` down to 0, `constant`, or `steps`, times `decay` at every one of `milestones` (rising epochs;
    one that lies within the warm-up counts from its end on). The warm-up's first step has rate 0, which leaves the
    weights as they are; without `warmup_from_zero` the step under way counts as taken, so that the first has a rate
    and the warm-up's last the full one. `weight_decay` is the L2 coefficient (`adam` and `sgd`), on every trained
    parameter. `nesterov` is sgd's; without momentum, and for adam, it has no effect. `clip_norm` bounds the norm of
    the whole update's gradient. `precision` bfloat16 is autocast: weights stay float32.

    A number may be NumPy's; it is kept as Python's.

    Raises:
        ValueError: a value outside its range, or of another type.
    """

    epochs: int
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    warmup_epochs: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_norm: float | None = None
    warmup_from_zero: bool = True
    nesterov: bool = True
    warmup_steps: int = 0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "warmup_steps"):
            object.__setattr__(self, name, checks.whole_number(getattr(self, name), name))
        for name in ("learning_rate", "momentum", "weight_decay", "warmup_epochs", "clip_norm", "decay"):
            if getattr(self, name) is not None or name != "clip_norm":
                object.__setattr__(self, name, _finite(getattr(self, name), name))
        for name in ("warmup_from_zero", "nesterov"):
            if getattr(self, name) not in (True, False):
                raise ValueError(f"{name} is {getattr(self, name)!r}; valid are True and False")
            object.__setattr__(self, name, bool(getattr(self, name)))
        choices = {
            "optimizer": ("sgd", "adam"),
            "schedule": ("cosine", "constant", "steps"),
            "precision": tuple(PRECISIONS),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"unknown {name} {getattr(self, name)!r} in a recipe; choose one of {valid}")
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.learning_rate < math.inf:
            raise ValueError(f"a recipe needs epochs ≥ 1, batch_size ≥ 1 and a finite learning_rate > 0, got {self}")
        if (
            not 0 <= self.momentum < 1
            or not 0 <= self.weight_decay < math.inf
            or not 0 <= self.warmup_epochs <= self.epochs
        ):
            raise ValueError(
                f"a recipe needs momentum in [0, 1), weight_decay ≥ 0 and warmup_epochs in [0, epochs], got {self}"
            )
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm must be finite and positive, or None, got {self.clip_norm}")
        self._check_steps()

    def _check_steps(self) -> None:
        """A warm-up that counts steps, and a schedule of steps."""
        if self.warmup_steps < 0 or (self.warmup_steps and self.warmup_epochs):
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} beside warmup_epochs {self.warmup_epochs}; valid are steps ≥ 0, "
                "in place of epochs"
            )
        try:
            milestones = tuple(_finite(each, "a milestone") for each in self.milestones)
        except TypeError:
            raise ValueError(f"milestones are {self.milestones!r}; valid are epochs such as (40, 90)") from None
        rising = (0.0, *milestones, float(self.epochs))
        if any(first >= second for first, second in pairwise(rising)) or bool(milestones) != (self.schedule == "steps"):
            raise ValueError(
                f"milestones are {milestones} under schedule {self.schedule!r} of {self.epochs} epochs; valid are "
                "rising epochs within the training, such as (40, 90), under steps, and none else"
            )
        if not 0 < self.decay < math.inf:
            raise ValueError(f"decay must be finite and positive, got {self.decay}")
        object.__setattr__(self, "milestones", milestones)

    def rate(self, epoch: float, step: float = 0.0) -> float:
        """Learning rate of a step that begins after `epoch` epochs, in [0, epochs), and is `step` of an epoch long.

        The step's length counts only in a warm-up that counts steps, or does not begin from zero.
        """
        warmup = self.warmup_steps * step if self.warmup_steps else self.warmup_epochs
        if epoch < warmup:
            reached = epoch if self.warmup_from_zero else min(epoch + step, warmup)
            return self.learning_rate * reached / warmup
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "steps":
            return self.learning_rate * self.decay ** sum(each <= epoch for each in self.milestones)
        done = (epoch - warmup) / (self.epochs - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Cost:
    """What a training took: wall-clock seconds over all its runs, images seen a second, where, on how many processes.

    `images_per_second` counts every image as often as it was seen, once for all objectives of a step.
    """

    seconds: float
    images_per_second: float
    device: str
    processes: int


@dataclass(frozen=True)
class Fit:
    """What `fit` returns: one row per epoch and loss term, and the cost.

    A row holds `epoch` (from 1), `term` (the objective's name, or `objective/term`), `value` (mean over the epoch's
    steps) and `learning_rate` (of the epoch's last step, as it was taken).
    """

    history: list[dict[str, float | int | str]]
    cost: Cost


def _finite(value: Any, name: str) -> float:
    """A finite number of any kind as Python's; one that is Python's stays of its type."""
    if type(value) in (int, float) and math.isfinite(value):
        return value
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r} ({type(value).__name__}); valid are finite numbers")
    return float(value)


def stream(seed: int, role: str, *purpose: str | int) -> torch.Generator:
    """A random generator of its own for every (seed, role, purpose), on the processor.

    Two roles never share a stream, so that an old and a new model of one seed differ in weights, order and
    augmentation.
    """
    digest = hashlib.sha256(repr((checks.whole_number(seed, "seed"), str(role), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def initialised(make: Callable[[], nn.Module], seed: int, role: str) -> nn.Module:
    """Build a module with the initial weights of stream (seed, role); the global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, role, "weights").initial_seed())
        return make()


def one_device(precision: str = "float32") -> Fabric:
    """Lightning Fabric on one device, a GPU where there is one, without its announcements.

    The variables of a scheduler's or a launcher's tasks do not count: it is this process alone.
    """
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    return Fabric(accelerator="auto", devices=1, precision=PRECISIONS[precision], plugins=[LightningEnvironment()])


def fit(
    objective: Objective,
    modules: nn.Module,
    images: Images | InMemory,
    recipe: Recipe,
    *,
    seed: int,
    role: str,
    augment: Callable[[Any, torch.Generator], Any] = unchanged,
    combine: Combine | None = None,
    frozen: Sequence[nn.Module] = (),
    on_epoch: Callable[[int, int], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    report: Callable[[float, str], None] | None = None,
    workers: int = 0,
    fabric: Fabric | None = None,
    order: Order | None = None,
) -> Fit:
    """Train `modules` on `images`; they end in eval mode.

    Everything random comes from stream (seed, role): the order of the images, the augmentation, and whatever the
    objective draws from torch's global generator. A run that was killed at any step and is called again with the same
    `checkpoint` ends with the same weights, bit for bit, on the same processor and library versions; the kernels of a
    GPU may add in another order.

    Args:
        objective: called with (inputs, labels, indices) of a batch; yields (name, loss) one at a time. Each loss is
            sent backward and freed before the next is asked for, so that losses which share a graph must be yielded
            together, as a mapping from terms to scalars whose sum is the loss.
        modules: what is trained (an `nn.ModuleList` or `nn.ModuleDict` for several); parameters with
            `requires_grad=False` are not.
        images: the training set. A batch is dropped if it is not full, unless the set is smaller than one batch.
        recipe: epochs, optimiser, schedule, precision. `batch_size` counts the images of all processes together.
        seed: any whole number.
        role: what this model is in the study: old, new, paragon, side…
        augment: (inputs, generator) → inputs, applied to every batch on its device.
        combine: how the objectives' gradients become one: (parameters, {name: gradients}) → gradients, `None` where
            a parameter has none. By default their sum.
        frozen: modules that the objective uses and nothing may change: put on the device and in eval mode, without
            gradients.
        on_epoch: called as (epoch, epochs) before every epoch (from 0), after everything was put in training mode; a
            method may freeze a part there. After a resume it is called for the interrupted epoch only.
        checkpoint: a file to write every `checkpoint_seconds` and to resume from. One file a run: recipe, seed, role
            and number of images are compared, the objective, the order and the images themselves are not. It is tried
            before the first step. A second training with the same file waits for the first, and says so in the log.
        checkpoint_seconds: seconds between two checkpoints.
        report: called at every step as (share done in [0, 1], text).
        workers: processes that read a set on disk.
        fabric: Lightning's placement; by default one device, a GPU where there is one. With several processes, call
            `fabric.launch()` first: every process takes its share of each batch, and each objective's gradient is
            averaged over the processes before `combine`. Its precision is what counts, not the recipe's. BatchNorm's
            statistics are each process's own, and the first one's are kept; a parameter that no loss reaches is still
            decayed.
        order: which images the steps of an epoch see: (steps, images a batch, generator) → integers (steps, images a
            batch), such as `data.identity_batches.IdentityBatches`; by default all, in a random order. It is called
            for every epoch, after a resume again, and must draw from this generator alone. Of several processes each
            takes its share of a batch in one piece.

    Raises:
        ValueError: an empty set, nothing to train, a part without values (lazy, or on the meta device), a batch that
            the processes cannot share evenly, an order of another shape or beyond the set, a seed or a role of another
            type, or a file that is no checkpoint of this run; it is left as it is.
        OSError: the checkpoint cannot be written, as on a full disk; the one before is as it was.
        FloatingPointError: a loss is not finite.
    """
    seed, checkpoint = checks.whole_number(seed, "seed"), Path(checkpoint) if checkpoint else None
    if not isinstance(role, str):
        raise ValueError(f"role is {role!r} ({type(role).__name__}); valid is a text, such as 'old'")
    fabric = fabric or one_device(recipe.precision)
    run = _Run(objective, modules, images, recipe, seed, role, augment, combine, fabric, workers, order)
    for module in frozen:
        fabric.to_device(module.eval().requires_grad_(False))
    identity = {"recipe": _identity(recipe), "seed": seed, "role": role, "images": len(images), "batch": run.batch_size}
    with _own(checkpoint, fabric) as written:
        state = read_checkpoint(checkpoint, identity, modules, run.optimizer) if checkpoint else State()
        fabric.barrier()  # all have read before one writes
        if written and not checkpoint.exists():  # what cannot be written is told now, not after hours
            write_checkpoint(checkpoint, identity, modules, run.optimizer, state)
            checkpoint.unlink()
        saved, cuda = time.monotonic(), range(torch.cuda.device_count())
        begun = saved - state.seconds
        with torch.random.fork_rng(devices=cuda):
            while state.step < run.steps * recipe.epochs:
                epoch = state.step // run.steps
                modules.train()
                if on_epoch is not None:
                    on_epoch(epoch, recipe.epochs)
                for _ in run.steps_of(epoch, state):
                    if state.step % run.steps == 0:
                        run.close_epoch(epoch, state)
                    state.seconds = time.monotonic() - begun
                    if report is not None:
                        report(state.step / (run.steps * recipe.epochs), f"epoch {epoch + 1} of {recipe.epochs}")
                    if written and time.monotonic() - saved >= checkpoint_seconds:
                        write_checkpoint(checkpoint, identity, modules, run.optimizer, state)
                        saved = time.monotonic()
        if written:
            write_checkpoint(checkpoint, identity, modules, run.optimizer, state)
    modules.eval()
    images_per_second = state.step * run.batch_size / max(state.seconds, 1e-9)
    cost = Cost(state.seconds, images_per_second, str(fabric.device), fabric.world_size)
    return Fit(state.history, cost)


@contextmanager
def _own(checkpoint: Path | None, fabric: Fabric) -> Iterator[bool]:
    """Have a checkpoint for this training alone; whether this process writes it. The others wait until it is had."""
    if checkpoint is None or not fabric.is_global_zero:
        fabric.barrier()
        yield False
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with alone(checkpoint.with_name(f".{checkpoint.name}.lock"), f"trains with the checkpoint {checkpoint}"):
        fabric.barrier()
        yield True


@dataclass
class _Run:
    """The parts of one training, and its single step."""

    objective: Objective
    modules: nn.Module
    images: Images | InMemory
    recipe: Recipe
    seed: int
    role: str
    augment: Callable[[Any, torch.Generator], Any]
    combine: Combine | None
    fabric: Fabric
    workers: int
    order: Order | None
    parameters: list[nn.Parameter] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    batch_size: int = field(init=False)
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.images):
            raise ValueError("the training set is empty; check its split and its classes")
        self.batch_size = min(self.recipe.batch_size, len(self.images))
        if self.batch_size % self.fabric.world_size:
            raise ValueError(
                f"a batch of {self.batch_size} cannot be shared evenly by {self.fabric.world_size} processes; "
                "choose a batch_size that is a multiple of their number"
            )
        self.steps = len(self.images) // self.batch_size
        if self.recipe.warmup_steps > self.steps * self.recipe.epochs:
            raise ValueError(
                f"warmup_steps is {self.recipe.warmup_steps}; the training has {self.steps * self.recipe.epochs} "
                f"steps: {self.recipe.epochs} epochs of {self.steps}"
            )
        check_values(self.modules)
        self.fabric.to_device(self.modules)
        self.parameters = [parameter for parameter in self.modules.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise ValueError("nothing to train: no parameter of the modules requires a gradient")
        self.optimizer = _optimizer(self.parameters, self.recipe)

    def steps_of(self, epoch: int, state: State) -> Iterator[None]:
        """Take the steps of an epoch which `state` has not taken; returns to the caller after every one."""
        order = self._order_of(epoch)
        share = order[state.step % self.steps :, self.fabric.global_rank :: self.fabric.world_size]
        for batch in batches(self.images, share.reshape(-1), share.shape[1], self.workers):
            self._step(batch, state)
            state.step += 1
            yield

    def _order_of(self, epoch: int) -> Tensor:
        """The images of every step of an epoch, int64 (steps, images a batch)."""
        generator = stream(self.seed, self.role, "order", epoch)
        shape = self.steps, self.batch_size
        if self.order is None:
            return torch.randperm(len(self.images), generator=generator)[: math.prod(shape)].view(shape)
        order = as_integers(self.order(*shape, generator), "order")
        if order.dtype != torch.int64 or order.shape != shape:
            raise ValueError(
                f"order gave {order.dtype} {tuple(order.shape)}; valid are integers {shape}: steps, images"
            )
        if not 0 <= int(order.min()) <= int(order.max()) < len(self.images):
            raise ValueError(
                f"order gave the images {int(order.min())} to {int(order.max())}; the set has 0 to "
                f"{len(self.images) - 1}: make it of the labels of this set"
            )
        # `steps_of` deals a batch out to the processes like cards: so each gets what were neighbours.
        return order.view(self.steps, self.fabric.world_size, -1).mT.reshape(shape)

    def _step(self, batch: tuple[Any, Tensor, Tensor], state: State) -> None:
        rank = self.fabric.global_rank
        generator = stream(self.seed, self.role, "augment", state.step, rank)
        torch.manual_seed(stream(self.seed, self.role, "objective", state.step, rank).initial_seed())
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(state.step)
        inputs, labels, indices = self.fabric.to_device(batch)
        inputs = self.augment(inputs, generator)
        self.optimizer.zero_grad(set_to_none=True)
        gradients: dict[str, Gradients] = {}
        losses = iter(self.objective(inputs, labels, indices))
        while (name := self._backward_next(losses, state)) is not None:
            if self.combine is not None:
                gradients[name] = self._take_gradients()
        if self.combine is not None:
            for parameter, gradient in zip(self.parameters, self.combine(self.parameters, gradients), strict=True):
                parameter.grad = gradient
        else:
            self._average_gradients()
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self.optimizer.step()

    def _rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.recipe.rate(step / self.steps, 1 / self.steps)

    def _backward_next(self, losses: Iterator[tuple[str, Loss]], state: State) -> str | None:
        """Ask the objective for its next loss, send it backward and let it go; its name, or None after the last."""
        with self.fabric.autocast():
            item = next(losses, None)
        if item is None:
            return None
        name, loss = item
        terms = loss if isinstance(loss, Mapping) else {"": loss}
        self.fabric.backward(sum(terms.values()))
        for term, value in terms.items():
            state.add(f"{name}/{term}" if term else name, value.detach())
        return name

    def _take_gradients(self) -> Gradients:
        """The gradients of one objective, averaged over the processes; the parameters are left without."""
        self._average_gradients()
        taken = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return taken

    def _average_gradients(self) -> None:
        if self.fabric.world_size == 1:
            return
        for parameter in self.parameters:
            # A process whose share of the batch does not reach a parameter still takes part, with zeros.
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.fabric.all_reduce(gradient, reduce_op="mean")

    def close_epoch(self, epoch: int, state: State) -> None:
        """Turn the epoch's sums into history rows."""
        for term, total in state.totals.items():
            value = float(total) / self.steps
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss {term!r} of {self.role!r} is {value} in epoch {epoch + 1}: training diverged; "
                    f"lower the learning rate ({self.recipe.learning_rate}) or set clip_norm"
                )
            rate = self._rate(state.step - 1)
            state.history.append({"epoch": epoch + 1, "term": term, "value": value, "learning_rate": rate})
        state.totals.clear()


def check_values(modules: nn.Module) -> None:
    """Refuse what has no values yet: nothing could be trained, copied, or written to a checkpoint.

    Raises:
        ValueError: a parameter or a buffer that is lazy or on the meta device, by its name.
    """
    for name, tensor in (*modules.named_parameters(), *modules.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            raise ValueError(
                f"{name} has no values yet: it is lazy or on the meta device. Call the network on a batch, or load its "
                "weights, before"
            )


def _identity(recipe: Recipe) -> dict[str, Any]:
    """What tells a recipe from others in a checkpoint; an earlier version's still fits where it trained alike."""
    later = ("warmup_from_zero", "nesterov", "warmup_steps", "milestones", "decay")
    unsaid = {each.name: each.default for each in fields(recipe) if each.name in later}
    return {name: value for name, value in asdict(recipe).items() if name not in unsaid or value != unsaid[name]}


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(
        parameters, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=nesterov
    )
