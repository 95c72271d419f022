"""Roles of base models: what each is trained on, its network and classifier, and whose initial weights it has."""

import itertools

import pytest
import torch
from torch import nn

from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.study.lab.images import open_set, training_images
from compatlib.study.lab.roles import ROLES, make_backbone, role_of, share_of
from compatlib.study.lab.trainables import Base, Narrow
from compatlib.study.lab.trainables.widths import ONE_TO_ONE, WidthKnobs
from compatlib.study.settings import Knobs, Network

CLASSES, PER_CLASS = 10, 8


def convolutions(backbone: nn.Module) -> list[torch.Tensor]:
    """The weights that are drawn at random; those of BatchNorm start at 0 and 1 everywhere."""
    return [tensor.detach() for tensor in backbone.parameters() if tensor.ndim == 4]


def drawn(backbone: nn.Module) -> torch.Tensor:
    """The same, flat."""
    return torch.cat([tensor.flatten() for tensor in convolutions(backbone)])


def share_nothing(first: torch.Tensor, second: torch.Tensor) -> bool:
    """No value of one is found in the other, wherever it stands, but for a hundredth that may be equal by chance."""
    alike = torch.isin(first, second).sum()
    return int(alike) < 0.01 * min(len(first), len(second))


def test_every_role_has_its_share_of_the_images(tiny):
    run = tiny()
    whole = training_images(run)
    assert torch.equal(share_of("old", run).images, whole.images[whole.labels < CLASSES // 2])
    assert share_of("old_quarter", run).labels.unique().tolist() == [0, 1]
    assert torch.bincount(share_of("old_samples", run).labels).tolist() == [PER_CLASS // 2] * CLASSES
    for role in ("old_shared", "old_small", "old_narrow", "old_cosine", "old_small_narrow"):
        assert share_of(role, run).digest() == share_of("old", run).digest()
    for role in ("new", "twin", "small", "new_narrow", "new_deep", "new_cosine", "new_arcface", "new_deep_arcface"):
        assert share_of(role, run).digest() == whole.digest()
    for role, wrong in (("old_mislabelled_20", 2), ("old_mislabelled_40", 3)):
        images, right = share_of(role, run), share_of("old", run).labels
        assert torch.equal(images.images, share_of("old", run).images)
        assert torch.bincount(right[images.labels != right]).tolist() == [wrong] * (CLASSES // 2)
    assert share_of("old_open", run).labels.unique().tolist() == [0, 1]
    assert share_of("new_open", run).digest() == open_set(run).train.digest()


def test_a_share_is_cut_once_whatever_else_differs(tiny):
    run = tiny()
    other = tiny(WidthKnobs, rate_joint=0.3, seeds="3").model_copy(update={"small_network": run.network})
    own = run.model_copy(update={"training": run.training.model_copy(update={"epochs": 9}), "knobs": Knobs()})
    assert share_of("old", run) is share_of("old", own)
    assert share_of("old", run).digest() == share_of("old", other).digest()
    fewer = run.model_copy(update={"train_per_class": 3})
    assert len(share_of("old", fewer)) == 3 * CLASSES // 2


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_its_network_and_its_classifier(tiny, role):
    run = tiny()
    parts = Base(role).build(run, 3)
    network = run.small_network if "small" in role else run.network
    dim = run.network.dim // (2 if "narrow" in role else 1)
    deep = 2 if "deep" in role else 1
    widths = [(2 if "gallery" in role else 1) * width for width in network.widths]
    expected = small_resnet(
        widths=widths, blocks=deep * network.blocks, stem_stride=2, dim=dim, head=network.head, in_channels=1
    )
    shapes = [[tensor.shape for tensor in each.state_dict().values()] for each in (parts["backbone"], expected)]
    assert shapes[0] == shapes[1]
    kinds = {"cosine": CosineClassifier, "arcface": ArcFaceClassifier}
    assert type(parts["classifier"]) is kinds.get(role.rpartition("_")[2], LinearClassifier)
    assert parts["classifier"].weight.shape == (int(share_of(role, run).labels.max()) + 1, dim)


def test_no_two_base_models_share_initial_weights_but_for_the_role_that_does(tiny):
    run = tiny(WidthKnobs)
    # A narrow network trained apart is a base model too.
    whats = [*map(Base, ROLES), *(Narrow("independent", width) for width in (0.25, 0.5, 0.75))]
    built = {what.name: what.build(run, 0) for what in whats}
    starts = {name: drawn(parts["backbone"]) for name, parts in built.items()}
    for first, second in itertools.combinations(starts, 2):
        if {first, second} == {"new", "old_shared"}:
            assert torch.equal(starts[first], starts[second])
        else:
            assert share_nothing(starts[first], starts[second]), (first, second)
    rows = {name: parts["classifier"].weight.detach()[:2, :8].flatten() for name, parts in built.items()}
    apart = [rows[role] for role in ROLES]
    assert not any((a == b).any() for a, b in itertools.combinations(apart, 2))


def test_a_narrow_network_of_its_own_is_no_slice_of_the_full_model_but_one_to_one_bcts_is(tiny):
    run = tiny(WidthKnobs)
    full = convolutions(Base("new").build(run, 0)["backbone"])
    for width in (0.25, 0.5, 0.75):
        built = (Narrow(method, width).build(run, 0)["backbone"] for method in ("independent", ONE_TO_ONE))
        for apart, part, whole in zip(*map(convolutions, built), full, strict=True):
            assert apart.shape == part.shape
            assert torch.equal(part, whole[: len(part), : part.shape[1]])
            assert share_nothing(apart.flatten(), whole.flatten())


@pytest.mark.parametrize("role", ["old", "new"])
def test_seeds_share_no_initial_weights(tiny, role):
    starts = [drawn(Base(role).build(tiny(), seed)["backbone"]) for seed in range(3)]
    assert all(share_nothing(a, b) for a, b in itertools.combinations(starts, 2))


def test_building_leaves_the_global_generator_as_it_was(tiny):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Base("old").build(tiny(), 0)
    assert torch.equal(torch.rand(2), expected)


def test_a_backbone_of_torchvision_is_made_as_the_settings_describe_it(tiny):
    large = make_backbone(Network(torchvision="resnet18", dim=7), training_images(tiny()))
    assert large.dim == 7
    assert sum(parameter.numel() for parameter in large.parameters()) > 11_000_000


@pytest.mark.parametrize("name", ["older", "", "Old"])
def test_an_unknown_role_is_refused_with_the_valid_ones(tiny, name):
    words = rf"unknown role '{name}'; choose one of \('old', 'old_samples', 'old_quarter'"
    for call in (lambda: role_of(name), lambda: share_of(name, tiny()), lambda: Base(name)):
        with pytest.raises(ValueError, match=words):
            call()
