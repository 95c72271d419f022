"""Independent training: the loss of its formula, whose classifier applies the margin, on the study's own networks."""

import inspect
import math

import pytest
import torch
from torch import nn

from compatlib.checkpoints import read_tensors
from compatlib.data.augment import crop_and_flip, unchanged
from compatlib.data.images import ImageSet
from compatlib.methods import independent
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.training import Recipe, initialised

DIM, CLASSES, COUNT = 6, 3, 24
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.05, warmup_epochs=1)
ONE_STEP = Recipe(epochs=1, batch_size=COUNT, learning_rate=0.1, weight_decay=0.0)


def images(noise: int = 256) -> ImageSet:
    """A class is a brightness, under noise of any strength."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(COUNT) % CLASSES
    pixels = (
        torch.randint(0, noise, (COUNT, 3, 8, 8), generator=generator)
        + (labels * 80 * (noise < 256))[:, None, None, None]
    )
    return ImageSet(pixels.clamp(0, 255).to(torch.uint8), labels, ("dark", "grey", "bright"))


def models(classifier=LinearClassifier, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    backbone = initialised(lambda: small_resnet(widths=(8, 16), dim=DIM), seed, "new")
    return backbone, initialised(lambda: classifier(DIM, CLASSES), seed, "new classifier")


def train(backbone, classifier, the_images=None, recipe=RECIPE, **options):
    options = {"seed": 0, "role": "new"} | options
    the_images = images() if the_images is None else the_images
    return independent.fit(backbone, classifier, the_images, recipe, **options)


def weights(*modules: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().double().cpu() for m in modules for tensor in m.state_dict().values()])


def smoothed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> float:
    """The formula, one image and one class at a time."""
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(value) for value in row))
        for k, value in enumerate(row):
            share = smoothing / CLASSES + (1 - smoothing) * (k == label)
            total -= share * (value - normaliser)
    return total / len(labels)


@pytest.mark.parametrize("classifier", [LinearClassifier, CosineClassifier, ArcFaceClassifier])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_the_formula(classifier, smoothing):
    backbone, the_classifier = models(classifier)
    whole = images()
    with torch.no_grad():
        embeddings = backbone.train()(whole.images)
        logits = the_classifier(embeddings, whole.labels)
    backbone, the_classifier = models(classifier)
    fit = train(backbone, the_classifier, recipe=ONE_STEP, augment=unchanged, label_smoothing=smoothing)
    assert [row["term"] for row in fit.history] == ["classification"]
    expected = smoothed_cross_entropy(logits, whole.labels, smoothing)
    assert fit.history[0]["value"] == pytest.approx(expected, rel=1e-4)


def test_the_margin_of_a_classifier_is_applied():
    """At equal weights ArcFace's loss is the larger one, because its true logit is lowered."""
    losses = [
        train(*models(kind), recipe=ONE_STEP, augment=unchanged).history[0]["value"]
        for kind in (CosineClassifier, ArcFaceClassifier)
    ]
    assert losses[1] > losses[0] + 0.1


def test_one_step_moves_backbone_and_classifier_down_the_gradient():
    recipe = Recipe(epochs=1, batch_size=COUNT, learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")
    backbone, classifier = models()
    oracle_backbone, oracle_classifier = models()
    train(backbone, classifier, recipe=recipe, augment=unchanged)
    whole = images()
    logits = oracle_classifier(oracle_backbone(whole.images))
    loss = -logits.log_softmax(1)[torch.arange(COUNT), whole.labels].mean()
    oracle = [*oracle_backbone.parameters(), *oracle_classifier.parameters()]
    gradients = torch.autograd.grad(loss, oracle)
    trained = [*backbone.parameters(), *classifier.parameters()]
    for parameter, start, gradient in zip(trained, oracle, gradients, strict=True):
        torch.testing.assert_close(parameter.cpu(), start - 0.1 * gradient, atol=1e-5, rtol=1e-4)
        assert gradient.abs().max() > 0


def test_what_can_be_told_apart_is_learned():
    backbone, classifier = models()
    recipe = Recipe(epochs=15, batch_size=8, learning_rate=0.05, warmup_epochs=1)
    easy = images(noise=40)
    history = train(backbone, classifier, easy, recipe).history
    assert history[-1]["value"] < 0.5 * history[0]["value"]
    assert not backbone.training
    assert not classifier.training
    device = next(backbone.parameters()).device
    with torch.no_grad():
        predicted = classifier(backbone(easy.images.to(device))).argmax(1).cpu()
    assert (predicted == easy.labels).float().mean() > 0.9


def test_the_same_seed_and_role_give_the_same_model_and_others_another():
    results = []
    for options in ({}, {}, {"seed": 1}, {"role": "old"}):
        pair = models()
        train(*pair, **options)
        results.append(weights(*pair))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[3])


def test_images_are_shifted_and_mirrored_unless_told_otherwise():
    assert inspect.signature(independent.fit).parameters["augment"].default is crop_and_flip
    seen = []

    def recorded(batch, generator):
        seen.append(batch.shape)
        return crop_and_flip(batch, generator)

    pairs = [models() for _ in range(3)]
    train(*pairs[0])
    train(*pairs[1], augment=recorded)
    train(*pairs[2], augment=unchanged)
    assert len(seen) == 6
    assert torch.equal(weights(*pairs[0]), weights(*pairs[1]))
    assert not torch.equal(weights(*pairs[0]), weights(*pairs[2]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop_at", [2, 3, 5])
def test_an_interrupted_training_of_a_convolutional_network_ends_with_the_same_weights(tmp_path, stop_at, precision):
    """The loop's own tests hold it for linear layers; here weights are channels-last, their checkpoint is not."""
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    whole, interrupted, resumed = models(), models(), models(seed=1)
    expected = train(*whole, recipe=recipe)
    taken = []

    def report(share, text):
        taken.append(share)
        if len(taken) == stop_at:
            raise KeyboardInterrupt

    options = {"recipe": recipe, "checkpoint": tmp_path / "run", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train(*interrupted, report=report, **options)
    assert read_tensors(tmp_path / "run")[1]["step"] == stop_at - 1
    assert train(*resumed, **options).history == expected.history
    assert torch.equal(weights(*whole), weights(*resumed))


@pytest.mark.parametrize("label", [3, 7])
def test_a_label_without_a_row_in_the_classifier_is_refused(label):
    whole = images()
    labels = whole.labels.clone()
    labels[5] = label
    beyond = ImageSet(whole.images, labels, tuple("abcdefgh"))
    with pytest.raises(ValueError, match=f"label {label} has no row in a classifier of 3 classes"):
        train(*models(), beyond)


def test_an_empty_set_is_refused_as_the_loop_does():
    with pytest.raises(ValueError, match="training set is empty"):
        train(*models(), images().select(torch.arange(0)))


def test_an_unknown_placement_is_refused():
    with pytest.raises(TypeError, match="chekpoint"):
        train(*models(), chekpoint="run")
