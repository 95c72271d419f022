"""Stored views: every model sees the same augmented image, and a training step draws one view of each."""

import pytest
import torch
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.methods.stored_views import StoredViews, one_view, store_views
from compatlib.models.resnet import small_resnet


class Pixels(nn.Module):
    """The image itself as its embedding, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) * self.factor


def images(count: int = 7) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.arange(count) % 3, ("a", "b", "c"))


def stored(views: int = 3, count: int = 5, dims=(2, 3, 4)) -> StoredViews:
    embeddings = [torch.arange(views * count * dim).view(views, count, dim).float() for dim in dims]
    return StoredViews(*embeddings, torch.arange(count) % 2)


def test_all_models_see_the_same_augmented_images():
    found = store_views(Pixels(1.0), Pixels(2.0), Pixels(4.0), images(), seed=0, views=3, batch_size=4)
    assert found.old.shape == (3, 7, 64)
    assert torch.equal(found.side, 2 * found.old)
    assert torch.equal(found.new, 4 * found.old)
    assert torch.equal(found.labels, images().labels)
    assert not torch.equal(found.old[0], found.old[1])


def test_views_are_those_of_the_seed():
    first, again, other = (store_views(Pixels(1.0), None, Pixels(1.0), images(), seed=s, views=2) for s in (0, 0, 1))
    assert torch.equal(first.old, again.old)
    assert not torch.equal(first.old, other.old)


def test_without_side_information_the_old_embedding_stands_in_its_place():
    found = store_views(Pixels(1.0), None, Pixels(2.0), images(), seed=0, views=1)
    assert torch.equal(found.side, found.old)
    assert torch.equal(found.new, 2 * found.old)


def test_without_augmentation_a_view_is_the_embedding_of_the_images():
    found = store_views(Pixels(1.0), None, Pixels(1.0), images(), seed=0, views=1, augment=lambda x, _: x)
    assert torch.equal(found.old[0], images().images.flatten(1).float())


def test_models_do_not_move_batchnorm_included():
    torch.manual_seed(0)
    model = small_resnet(widths=(8, 8), dim=4, in_channels=1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    store_views(model, None, model, images(), seed=0, views=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_progress_is_told_to_the_end():
    told = []
    store_views(
        Pixels(1.0), None, Pixels(1.0), images(), seed=0, views=2, batch_size=4, report=lambda *w: told.append(w)
    )
    assert [share for share, _ in told] == [number / 8 for number in range(1, 9)]
    texts = [f"model {model} of 2, view {view} of 2" for model in (1, 2) for view in (1, 2) for _ in range(2)]
    assert [text for _, text in told] == texts


def test_one_view_takes_the_same_view_of_every_model_and_each_view_in_its_turn():
    indices = torch.tensor([4, 0, 2])
    embeddings, labels = stored().batch(indices)
    assert labels.tolist() == [0, 0, 0]
    seen = set()
    for seed in range(40):
        old, side, new = one_view(embeddings, torch.Generator().manual_seed(seed))
        for place, item in enumerate(indices.tolist()):
            (view,) = [v for v in range(3) if torch.equal(old[place], stored().old[v, item])]
            assert torch.equal(side[place], stored().side[view, item])
            assert torch.equal(new[place], stored().new[view, item])
            seen.add((place, view))
    assert len(seen) == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"old": torch.ones(5, 2)}, r"valid is \(views, N, d\)"),
        ({"side": torch.ones(2, 5, 3)}, r"with equal views ≥ 1 and N"),
        ({"new": torch.ones(3, 4, 4)}, r"with equal views ≥ 1 and N"),
        ({"labels": torch.zeros(4).long()}, r"labels are torch.int64 of shape \(4,\); valid is integer \(5,\)"),
    ],
)
def test_other_shapes_are_refused(changes, words):
    given = {name: getattr(stored(), name) for name in ("old", "side", "new", "labels")}
    with pytest.raises(ValueError, match=words):
        StoredViews(**given | changes)


def test_no_view_is_refused():
    with pytest.raises(ValueError, match="views must be 1 or more, got 0"):
        store_views(Pixels(1.0), None, Pixels(1.0), images(), seed=0, views=0)
