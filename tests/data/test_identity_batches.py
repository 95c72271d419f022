"""P × K sampling against an obvious loop, its properties over seeds, and how training takes it."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.data.identity_batches import IdentityBatches
from compatlib.data.images import ImageSet
from compatlib.training import Recipe, fit, one_device, stream

SIZES = (9, 4, 1, 7, 0, 3, 12, 5)  # images of every identity; one has none


def generator(seed):
    return torch.Generator().manual_seed(seed)


def labels(sizes=SIZES, seed=0):
    whole = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return whole[torch.randperm(len(whole), generator=generator(seed))]


def one_pass(of, per_identity, identities, drawn):
    """The batches of one pass as a plain loop that draws the same numbers."""
    shuffled = torch.randperm(len(of), generator=drawn).tolist()
    groups = []
    for identity in sorted(set(of.tolist())):
        own = [image for image in shuffled if of[image] == identity]
        if len(own) < per_identity:
            own = [own[i] for i in torch.randint(len(own), (per_identity,), generator=drawn)]
        whole = len(own) // per_identity
        groups.append([own[per_identity * i : per_identity * (i + 1)] for i in range(whole)])
    batches = []
    while len(groups) >= identities:
        chosen = torch.randperm(len(groups), generator=drawn)[:identities].tolist()
        batches.append([image for place in chosen for image in groups[place].pop()])
        groups = [each for each in groups if each]
    return batches


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("per_identity", "identities"), [(4, 3), (2, 7), (1, 5), (3, 1)])
def test_batches_are_those_of_a_plain_loop_pass_after_pass(seed, per_identity, identities):
    of, drawn, expected = labels(seed=seed), generator(seed), []
    while len(expected) < 20:
        expected += one_pass(of, per_identity, identities, drawn)
    found = IdentityBatches(of, per_identity)(20, per_identity * identities, generator(seed))
    assert found.dtype == torch.int64
    assert found.tolist() == expected[:20]


@pytest.mark.parametrize("seed", range(10))
def test_every_batch_has_distinct_identities_with_as_many_images_each(seed):
    of = labels(seed=seed)
    order = IdentityBatches(of, 4)(30, 12, generator(seed))
    owners = of[order].view(30, 3, 4)
    assert (owners == owners[..., :1]).all()
    assert all(len(set(batch.tolist())) == 3 for batch in owners[..., 0])
    for group, owner in zip(order.view(-1, 4).tolist(), owners[..., 0].flatten().tolist(), strict=True):
        assert len(set(group)) == 4 or SIZES[owner] < 4
    assert torch.equal(order, IdentityBatches(of, 4)(30, 12, generator(seed)))
    assert not torch.equal(order, IdentityBatches(of, 4)(30, 12, generator(seed + 100)))


def test_within_a_pass_an_image_is_seen_once_and_an_identity_as_often_as_it_has_groups():
    """With one identity a batch, a pass is over when all groups are: 2 + 1 + 1 + 1 + 1 + 3 + 1 of SIZES."""
    of = labels()
    order = IdentityBatches(of, 4)(20, 4, generator(0))
    for seen in order.split(10):
        assert Counter(of[seen[:, 0]].tolist()) == {0: 2, 1: 1, 2: 1, 3: 1, 5: 1, 6: 3, 7: 1}
        repeated = {image for image, times in Counter(seen.flatten().tolist()).items() if times > 1}
        assert {SIZES[of[image]] for image in repeated} <= {1, 3}


def test_identities_and_images_are_drawn_as_likely():
    of = labels((4, 4, 4, 4, 4))
    first = IdentityBatches(of, 2)
    batches = torch.stack([first(1, 4, generator(seed))[0] for seed in range(1000)])
    share = torch.bincount(batches.flatten(), minlength=20).double() / 1000
    torch.testing.assert_close(share, torch.full((20,), 0.2, dtype=torch.double), atol=0.06, rtol=0)


def test_a_lone_image_fills_its_group():
    of = torch.tensor([0, 1, 1, 1, 1])
    order = IdentityBatches(of, 4)(3, 8, generator(0))
    assert (order == 0).sum(1).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"labels": torch.tensor([0.0, 1.0])}, "float32"),
        ({"labels": torch.tensor([[0, 1]])}, r"\(1, 2\)"),
        ({"labels": torch.tensor([0, -1])}, "from 0"),
        ({"labels": []}, "N ≥ 1"),
        ({"per_identity": 0}, "per_identity is 0"),
        ({"per_identity": 1.5}, "per_identity is 1.5"),
    ],
)
def test_impossible_samplers_are_refused(wrong, word):
    with pytest.raises(ValueError, match=word):
        IdentityBatches(**{"labels": labels(), **wrong})


@pytest.mark.parametrize("batch_size", [3, 10, 32])
def test_a_batch_of_parts_or_of_too_many_identities_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"batch of {batch_size} .* per_identity = 4 up to 28, .* 7 identities"):
        IdentityBatches(labels(), 4)(1, batch_size, generator(0))


# In training.

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05)


def image_set():
    of = labels()
    images = torch.randint(0, 256, (len(of), 3, 4, 4), dtype=torch.uint8, generator=generator(1))
    return ImageSet(images, of, tuple("abcdefgh"))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 8))


def train(model, seen, images=None, **options):
    def objective(inputs, targets, indices):
        seen.append(indices)
        yield "classification", F.cross_entropy(model(inputs.float() / 255), targets)

    images = image_set() if images is None else images
    return fit(objective, model, images, RECIPE, **{"seed": 2, "role": "new", **options})


def test_training_sees_the_batches_of_every_epochs_own_stream():
    images, seen = image_set(), []
    order = IdentityBatches(images.labels, 4)
    train(network(), seen, images, order=order)
    expected = [order(5, 8, stream(2, "new", "order", epoch)) for epoch in range(3)]
    assert torch.equal(torch.stack(seen), torch.cat(expected))
    assert len({batches.numpy().tobytes() for batches in expected}) == 3


class KilledError(Exception):
    pass


@pytest.mark.parametrize("step", [2, 7, 10])
def test_a_training_resumes_in_the_middle_of_an_epoch(tmp_path, step):
    order, whole, parts = IdentityBatches(image_set().labels, 4), [], []
    uninterrupted, resumed = network(), network()
    train(uninterrupted, whole, order=order)

    def kill(share, text):
        if round(share * 15) == step + 1:
            raise KilledError

    options = {"order": order, "checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 0}
    with pytest.raises(KilledError):
        train(resumed, parts, report=kill, **options)
    del parts[step:]  # the step after the last checkpoint is taken again
    train(resumed, parts, **options)
    assert torch.equal(torch.stack(parts), torch.stack(whole))
    assert torch.equal(resumed[1].weight, uninterrupted[1].weight)


class OneOfTwo:
    """Fabric on one of two processes, alone: what it would average with the other's stays as it is."""

    world_size = 2

    def __init__(self, rank):
        self.global_rank, self.own = rank, one_device()

    def all_reduce(self, tensor, reduce_op):
        return tensor

    def __getattr__(self, name):
        return getattr(self.own, name)


def test_of_two_processes_each_takes_whole_identities():
    images, halves = image_set(), ([], [])
    for rank, seen in enumerate(halves):
        train(network(), seen, images, order=IdentityBatches(images.labels, 4), fabric=OneOfTwo(rank))
    both = torch.stack([torch.stack(seen) for seen in halves], 1)
    assert both.shape == (15, 2, 4)
    order = IdentityBatches(images.labels, 4)(5, 8, stream(2, "new", "order", 0))
    assert torch.equal(both[:5].view(5, 8), order)


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (lambda steps, size, drawn: torch.zeros(steps, size - 1, dtype=torch.int64), r"\(5, 7\); valid .*\(5, 8\)"),
        (lambda steps, size, drawn: torch.zeros(steps, size), "float32"),
        (lambda steps, size, drawn: torch.full((steps, size), 41), "images 41 to 41; the set has 0 to 40"),
        (lambda steps, size, drawn: torch.full((steps, size), -1), "images -1 to -1"),
        (lambda steps, size, drawn: None, "order"),
        (IdentityBatches(labels(), 3), "batch of 8 images"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(order, word):
    with pytest.raises(ValueError, match=word):
        train(network(), [], order=order)
