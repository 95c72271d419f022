"""Base models by role: what each is trained on, whose initial weights it has, and that it is trained once."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from compatlib.checkpoints import load_weights, read_tensors
from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.methods import independent
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.models.slimmable import Slimmable
from compatlib.study import artifacts, models
from compatlib.study.models import ROLES, base_model
from compatlib.study.settings import Network, Settings, settings
from compatlib.training import Cost, Fit

PUBLISHED = sorted(artifacts.PUBLISHED_MODELS.glob("*.safetensors"))
CLASSES, PER_CLASS = 10, 10


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "kept"))
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "published")


@pytest.fixture
def run() -> Settings:
    """Ten classes of ten digits, two epochs of twelve steps."""
    smoke = settings({"profile": "smoke", "dataset": "digits"})
    sizes = {"classes": CLASSES, "train_per_class": PER_CLASS, "test_per_class": 4}
    return smoke.model_copy(
        update=sizes | {"training": smoke.training.model_copy(update={"epochs": 2, "batch_size": 8})}
    )


@pytest.fixture
def untrained(monkeypatch) -> list[dict]:
    """No training takes place; what it would have been called with is collected."""
    calls = []

    def fit(backbone, classifier, images, recipe, **options):
        start = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        calls.append(options | {"backbone": start, "classifier": classifier.weight, "images": images, "recipe": recipe})
        return Fit([], Cost(0.0, 0.0, "cpu", 1))

    monkeypatch.setattr(independent, "fit", fit)
    return calls


def convolutions(backbone: dict[str, torch.Tensor]) -> torch.Tensor:
    """The weights that are drawn at random, flat; those of BatchNorm start at 0 and 1 everywhere."""
    return torch.cat([tensor.flatten() for tensor in backbone.values() if tensor.ndim == 4])


# Roles.


def test_every_role_has_its_images_its_network_and_its_classifier(run, untrained):
    whole = models.training_images(run)
    for role in ROLES:
        base_model(run, role, 3)
    found = dict(zip(ROLES, untrained, strict=True))
    half = CLASSES // 2
    assert torch.equal(found["old"]["images"].images, whole.images[whole.labels < half])
    assert found["old_quarter"]["images"].labels.unique().tolist() == [0, 1]
    assert torch.bincount(found["old_samples"]["images"].labels).tolist() == [PER_CLASS // 2] * CLASSES
    for role in ("old_shared", "old_small", "old_narrow", "old_cosine", "old_small_narrow"):
        assert found[role]["images"].digest() == found["old"]["images"].digest()
    for role in ("new", "twin", "small", "new_narrow", "new_deep", "new_cosine", "new_arcface", "new_deep_arcface"):
        assert found[role]["images"].digest() == whole.digest()
    for role, call in found.items():
        assert call["role"] == role
        assert call["seed"] == 3
        assert call["recipe"] == run.training.recipe()
        assert call["label_smoothing"] == run.training.label_smoothing
        assert len(call["classifier"]) == int(call["images"].labels.max()) + 1
        widths = run.small_network.widths if "small" in role else run.network.widths
        assert call["backbone"]["trunk.0.weight"].shape == (widths[0], 1, 3, 3)
        dim = run.network.dim // 2 if "narrow" in role else run.network.dim
        assert call["classifier"].shape[1] == dim
    depths = {role: sum(name.endswith("conv1.weight") for name in call["backbone"]) for role, call in found.items()}
    assert depths == {role: 2 * depths["new"] if "deep" in role else depths["new"] for role in ROLES}


def test_no_open_set_identity_is_trained_on_and_tested(run):
    old, new = (models.role_of(role).share(run) for role in ("old_open", "new_open"))
    tested = models.open_set(run).test
    assert old.labels.unique().tolist() == [0, 1]
    assert new.labels.unique().tolist() == [0, 1, 2, 3, 4]
    assert tested.labels.unique().tolist() == [6, 7, 8, 9]
    assert len(new) == 5 * (PER_CLASS + 4)  # the test images of an identity are trained on too


@pytest.mark.parametrize(
    ("role", "kind"),
    [("new", LinearClassifier), ("new_cosine", CosineClassifier), ("new_deep_arcface", ArcFaceClassifier)],
)
def test_a_role_has_its_classifier(run, untrained, role, kind):
    assert type(base_model(run, role, 0)[0].classifier) is kind


def test_a_validation_keeps_to_the_training_images(run, monkeypatch):
    validation = run.model_copy(update={"validation": True})
    kept, held_out = models.training_images(validation), models.test_images(validation)
    assert torch.bincount(kept.labels).tolist() == [9] * CLASSES
    assert torch.bincount(held_out.labels).tolist() == [1] * CLASSES
    known = {image.numpy().tobytes() for image in models.training_images(run).images}
    parts = [{image.numpy().tobytes() for image in part.images} for part in (kept, held_out)]
    assert parts[0] | parts[1] == known
    assert not parts[0] & parts[1]


def test_old_and_new_models_share_no_initial_weights_but_for_the_role_that_does(run, untrained):
    for role in ROLES:
        base_model(run, role, 0)
    starts = {role: convolutions(call["backbone"]) for role, call in zip(ROLES, untrained, strict=True)}
    for first, second in itertools.combinations(ROLES, 2):
        if {first, second} == {"new", "old_shared"}:
            assert torch.equal(starts[first], starts[second])
        elif starts[first].shape != starts[second].shape:
            values = torch.stack([starts[first][:200], starts[second][:200]])
            assert torch.corrcoef(values)[0, 1].abs() < 0.4
        else:
            assert not (starts[first] == starts[second]).any()
    rows = [call["classifier"][:2, :8].flatten() for call in untrained]
    assert not any((a == b).any() for a, b in itertools.combinations(rows, 2))


def test_seeds_share_no_initial_weights(run, untrained):
    for role, seed in itertools.product(("old", "new"), (0, 1)):
        base_model(run, role, seed)
    starts = [convolutions(call["backbone"]) for call in untrained]
    assert not any((a == b).any() for a, b in itertools.combinations(starts, 2))


def test_an_unknown_role_is_refused_with_the_valid_ones(run):
    with pytest.raises(ValueError, match=r"unknown role 'older'; choose one of \('old', 'old_samples', 'old_quarter'"):
        base_model(run, "older", 0)


# Keys.


def key(run: Settings, role: str = "old", seed: int = 0) -> str:
    return base_model(run, role, seed)[0].key


def test_what_a_model_depends_on_changes_its_key(run, untrained):
    network, training = run.network, run.training
    others = [
        run.model_copy(update={"network": network.model_copy(update={"dim": 8})}),
        run.model_copy(update={"network": network.model_copy(update={"head": "linear_bn"})}),
        run.model_copy(update={"training": training.model_copy(update={"learning_rate": 0.1})}),
        run.model_copy(update={"training": training.model_copy(update={"label_smoothing": 0.1})}),
        run.model_copy(update={"train_per_class": PER_CLASS - 1}),
        run.model_copy(update={"classes": CLASSES - 1}),
    ]
    keys = [
        key(run),
        key(run, "old_shared"),
        key(run, "old_samples"),
        key(run, "new"),
        key(run, seed=1),
        *map(key, others),
    ]
    assert len(set(keys)) == len(keys)


def test_what_a_model_does_not_depend_on_leaves_its_key(run, untrained):
    others = [
        run.model_copy(update={"profile": "laptop"}),
        run.model_copy(update={"seeds": (0, 7), "sweep_seeds": (9,)}),
        run.model_copy(update={"test_per_class": 2}),
        run.model_copy(update={"small_network": Network(widths=(2,))}),
    ]
    assert {key(run), *map(key, others)} == {key(run)}
    assert len(untrained) == 1


# Training, finding, resuming.


def test_a_model_is_trained_once_and_found_as_it_was(run):
    shares = []
    first, trained_first = base_model(run, "new", 0, report=lambda share, text: shares.append(share))
    second, trained_second = base_model(run, "new", 0)
    assert (trained_first, trained_second) == (True, False)
    assert shares == pytest.approx([step / 24 for step in range(1, 25)])
    test = models.test_images(run)
    assert torch.equal(embed(first.backbone, test), embed(second.backbone, test))
    assert torch.equal(first.classifier.weight.cpu(), second.classifier.weight.cpu())
    for model in (first, second):
        assert not any(part.training for module in (model.backbone, model.classifier) for part in module.modules())
        assert model.key == model.artifact.key == first.key
        assert model.artifact.about["settings"]["role"] == "new"
    assert len(second.artifact.about["history"]) == 2


def test_what_is_done_to_a_model_does_not_change_its_artifact(run):
    model, _ = base_model(run, "old", 0)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
    assert convolutions(model.artifact.tensors).abs().min() > 0
    artifacts.publish(model.artifact)
    again, trained_now = base_model(run, "old", 0)
    assert not trained_now
    assert convolutions(dict(again.backbone.state_dict())).abs().min() > 0


def test_an_interrupted_training_goes_on(run, monkeypatch):
    monkeypatch.setattr(independent, "fit", partial(independent.fit, checkpoint_seconds=0))
    whole = base_model(run, "twin", 0)[0].artifact.tensors
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(artifacts.folder() / "another"))
    shares = []

    def report(share, text):
        shares.append(share)
        if len(shares) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base_model(run, "twin", 0, report=report)
    resumed, trained_now = base_model(run, "twin", 0, report=report)
    assert trained_now
    assert shares == pytest.approx([step / 24 for step in (1, 2, 3, 4, 5, *range(5, 25))])
    assert all(torch.equal(tensor, whole[name]) for name, tensor in resumed.artifact.tensors.items())


def test_a_base_model_leaves_the_global_generator_as_it_was(run):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    base_model(run, "old", 0)
    assert torch.equal(torch.rand(2), expected)


# Augmentation, work and networks.


@pytest.mark.parametrize(
    ("dataset", "flip"), [("glyphs", False), ("digits", False), ("omniglot_small", False), ("cifar100", True)]
)
@pytest.mark.parametrize(("side", "padding"), [(32, 4), (8, 1), (4, 1), (35, 4), (224, 28)])
def test_signs_are_not_mirrored_and_shifts_follow_the_size(run, untrained, monkeypatch, dataset, flip, side, padding):
    """An image whose left column alone is bright shows it on the left again, or mirrored on the right."""
    pixels = torch.zeros(64, 1, side, side, dtype=torch.uint8)
    pixels[..., 0] = 255
    images = ImageSet(pixels, torch.arange(64) % 2, ("a", "b"))
    monkeypatch.setattr(models, "training_images", lambda run: images)
    run = run.model_copy(update={"dataset": dataset})
    assert models.augmentation(run) == {"padding": padding, "flip": flip}
    base_model(run, "new", 0)
    augmented = untrained[0]["augment"](pixels, torch.Generator().manual_seed(0))
    columns = augmented.amax((1, 2)).argmax(1)
    bright = augmented.amax((1, 2, 3)) > 0
    assert (columns[bright] <= padding).any()
    if side > 2 * padding:
        assert bool((columns[bright] >= side - 1 - padding).any()) == flip


def test_work_counts_images_epochs_and_the_smaller_network(run):
    assert models.work(run, "new") == CLASSES * PER_CLASS * 2
    assert models.work(run, "old") == models.work(run, "old_samples") == models.work(run, "new") / 2
    assert models.work(run, "small") < models.work(run, "new") < models.work(run, "new_deep")
    longer = run.model_copy(update={"training": run.training.model_copy(update={"epochs": 6})})
    assert models.work(longer, "new") == 3 * models.work(run, "new")


def test_a_backbone_is_made_as_the_settings_describe_it():
    network = Network(widths=(4, 8), blocks=2, stem_stride=2, dim=5, head="linear_bn")
    made = models.make_backbone(network, 1)
    expected = small_resnet(widths=(4, 8), blocks=2, stem_stride=2, dim=5, head="linear_bn", in_channels=1)
    assert [tensor.shape for tensor in made.state_dict().values()] == [t.shape for t in expected.state_dict().values()]
    large = models.make_backbone(Network(torchvision="resnet18", dim=7), 3)
    assert large.dim == 7
    assert sum(parameter.numel() for parameter in large.parameters()) > 11_000_000


def test_training_and_test_images_are_read_once_and_differ(run):
    assert models.training_images(run) is models.training_images(run)
    assert len(models.training_images(run)) == CLASSES * PER_CLASS
    assert len(models.test_images(run)) == CLASSES * 4
    training = {image.numpy().tobytes() for image in models.training_images(run).images}
    assert not training & {image.numpy().tobytes() for image in models.test_images(run).images}


# The models that are published with the study.


def described(chosen, classes):
    """What a published model is called, without data set and seed, and its untrained parts: from its settings alone."""
    full = models.make_backbone(Network(**chosen["network"]), 3)
    if "side" in chosen:
        return f"side-{chosen['side'].lower()}-{full.dim}-{chosen['role']}", full
    parts, method = {"classifier": LinearClassifier(full.dim, classes)}, chosen.get("method", "")
    if "widths" not in chosen:
        words = f"{chosen['role']} {method}".strip()
        parts["backbone"] = full
    else:
        widths = chosen["widths"]
        width = "" if isinstance(widths, list) else f" {widths:g}"
        words = f"{method}{width}{'' if chosen['role'] == 'new' else ' open-set'}"
        if width:
            parts["backbone"] = Slimmable(full, (widths, 1.0)).extract(widths)
        elif method == "joint":
            network = Slimmable(full, widths)
            parts["backbones"] = nn.ModuleDict({f"width_{1000 * w:.0f}": network.extract(w) for w in widths})
        else:
            parts["network"] = Slimmable(full, widths)
    return words.lower().replace(",", "" if "widths" in chosen else ",").replace(" ", "-"), nn.ModuleDict(parts)


def backbones_of(parts):
    """Every network in a published model that embeds images by itself."""
    if not isinstance(parts, nn.ModuleDict):
        return [parts]
    if "network" in parts:
        return [parts["network"].extract(width) for width in parts["network"].widths]
    return list(parts["backbones"].values()) if "backbones" in parts else [parts["backbone"]]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_model_is_whole_and_what_its_settings_say(path):
    tensors, about = read_tensors(path)
    name, _, digits = path.stem.rpartition("-")
    assert about["key"].startswith(digits)
    assert len(digits) == 16
    assert len(about["key"]) == 64
    chosen, dataset = about["settings"], name.partition("-")[0]
    words, parts = described(chosen, len(tensors.get("classifier.weight", ())))
    assert about["name"] == name == f"{dataset}-{words}-{chosen['seed']}"
    assert chosen["role"] in ROLES
    assert chosen["augmentation"]["flip"] == (dataset not in models.WITHOUT_FLIP)
    load_weights(parts, {key: t for key, t in tensors.items() if not key.startswith("statistics.")}, path)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator)
    for backbone in backbones_of(parts.eval()):
        with torch.no_grad():
            embeddings = backbone(images)
        assert embeddings.isfinite().all()
        assert "method" in chosen or (embeddings.norm(dim=1) > 0).all()  # an upgrade may have collapsed: its rows tell
    losses = dict.fromkeys(range(1, chosen["training"]["epochs"] + 1), 0.0)
    for row in about["history"]:
        losses[row["epoch"]] += row["value"]
    assert 0 < losses[chosen["training"]["epochs"]] < losses[1]
    assert about["cost"]["seconds"] > 0
