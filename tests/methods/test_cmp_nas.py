"""CMP-NAS's first level beside what it is made of, and the training of a super-network, a path a step."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.data.augment import unchanged
from compatlib.methods import bct, bct_baselines, independent
from compatlib.methods.cmp_nas import NEEDS, fit_query, fit_supernet
from compatlib.models.classifiers import ArcFaceClassifier
from compatlib.models.supernet import SuperNet
from compatlib.training import Recipe, initialised
from tests.methods.test_bct import CLASSES, DIM, ONE_STEP, RECIPE, images, models, weights

SMALL = {"widths": (8, 12), "blocks": (1, 1), "strides": (1, 2), "middles": (0.5, 1), "stem_width": 6, "dim": DIM}


def gallery() -> dict[str, nn.Module]:
    backbone, classifier = models(role="gallery")
    return {"gallery_backbone": backbone, "gallery_classifier": classifier}


def query(objective: str, recipe: Recipe = RECIPE, **options) -> tuple[nn.Module, nn.Module, list[dict]]:
    backbone, classifier = models()
    given = {"seed": 0, "role": "new", "objective": objective} | gallery() | options
    return backbone, classifier, fit_query(backbone, classifier, images(), recipe, **given).history


@pytest.mark.parametrize("objective", NEEDS)
def test_an_objective_is_what_it_is_made_of(objective):
    (backbone, classifier), large = models(), gallery()
    own = {"seed": 0, "role": "new", "label_smoothing": 0.1}
    if objective == "initialised":
        classifier.load_state_dict(large["gallery_classifier"].state_dict())
    parts = (backbone, classifier, images(), RECIPE)
    if objective in ("own", "initialised"):
        independent.fit(*parts, **own)
    elif objective in ("gallery", "both"):
        alone = objective == "both"
        bct.fit(*parts, old_classifier=large["gallery_classifier"], weight=2.0, classification=alone, **own)
    else:
        aligned = {"old_backbone": large["gallery_backbone"], "classification": objective == "distillation"}

        def imitation(new, old, labels):
            target = F.linear(old, large["gallery_classifier"].weight.detach()).softmax(dim=1)
            return -(target * F.linear(new, classifier.weight).log_softmax(dim=1)).sum(dim=1).mean()

        alignment = imitation if objective == "distillation" else bct_baselines.squared_error
        bct_baselines.fit(*parts, alignment=alignment, weight=2.0, **aligned, **own)
    found = query(objective, label_smoothing=0.1, weight=2.0)
    torch.testing.assert_close(weights(*found[:2]), weights(backbone, classifier), rtol=1e-5, atol=1e-6)
    untouched = torch.equal(found[1].weight, models()[1].weight)
    assert untouched == (objective in ("regression", "gallery"))


@pytest.mark.parametrize("objective", NEEDS)
def test_the_gallery_model_does_not_change(objective):
    large = gallery()
    before = weights(*large.values())
    query(objective, ONE_STEP, **large)
    assert torch.equal(weights(*large.values()), before)


def test_the_gallery_term_alone_is_the_influence_loss_of_what_is_embedded():
    large, (backbone, _) = gallery(), models()
    expected = bct.influence_loss(backbone.train()(images().images), images().labels, large["gallery_classifier"])
    *_, history = query("gallery", ONE_STEP, augment=unchanged, weight=0.5)
    assert [row["term"] for row in history] == ["bct/influence"]
    assert history[0]["value"] == pytest.approx(0.5 * expected.item(), rel=1e-5)


def test_no_margin_is_imitated_and_none_imitates():
    """With the truth known a margin would lower its logit on either side."""
    backbone, _ = models()
    large = gallery() | {"gallery_classifier": initialised(lambda: ArcFaceClassifier(DIM, CLASSES), 0, "gallery")}
    own = initialised(lambda: ArcFaceClassifier(DIM, CLASSES), 0, "own")
    with torch.no_grad():
        logits = own(copy.deepcopy(backbone).train()(images().images))
        target = large["gallery_classifier"](copy.deepcopy(large["gallery_backbone"]).eval()(images().images))
    given = {"seed": 0, "objective": "distillation", "augment": unchanged, **large}
    history = fit_query(backbone, own, images(), ONE_STEP, **given).history
    found = next(row["value"] for row in history if row["term"] == "aligned/alignment")
    assert found == pytest.approx(float(F.cross_entropy(logits, target.softmax(dim=1))), rel=1e-5)


def test_what_is_lacking_or_does_not_fit_is_refused():
    backbone, classifier = models()
    given = {"seed": 0, "role": "new"}
    with pytest.raises(ValueError, match=r"unknown objective 'two'; choose one of \('own', 'initialised', 'dist"):
        fit_query(backbone, classifier, images(), RECIPE, objective="two", **given)
    for objective, needs in NEEDS.items():
        if needs:
            words = f"objective '{objective}' needs {' and '.join(needs)}, a module of the gallery model; give it"
            with pytest.raises(ValueError, match=words):
                fit_query(backbone, classifier, images(), RECIPE, objective=objective, **given)
    other = {"gallery_backbone": models(dim=9)[0], "gallery_classifier": models(dim=9)[1]}
    for objective in ("initialised", "distillation"):
        with pytest.raises(ValueError, match=rf"needs classifiers of one shape, not \({CLASSES}, {DIM}\) and the gal"):
            query(objective, **other)
    query("both", ONE_STEP, **other)


# The super-network.


def supernet() -> SuperNet:
    return initialised(lambda: SuperNet(**SMALL), 0, "supernet")


def fitted(network: SuperNet, recipe: Recipe = RECIPE, **options) -> tuple[list[tuple], list[dict], nn.Module]:
    """The paths that were drawn, the history, the classifier."""
    drawn, classifier = [], models()[1]
    switch = network.switch
    network.switch = lambda path: drawn.append(tuple(path)) or switch(path)
    given = {"seed": 0, "gallery_classifier": gallery()["gallery_classifier"]} | options
    history = fit_supernet(network, classifier, images(), recipe, **given).history
    del network.switch
    return drawn[:-1], history, classifier


def test_a_step_is_that_of_the_drawn_path_alone():
    network = supernet()
    before, start = copy.deepcopy(network), network.path
    (path,), history, classifier = fitted(network, ONE_STEP)
    alone, own = before.extract(path), models()[1]
    given = {"seed": 0, "role": "supernet", "old_classifier": gallery()["gallery_classifier"]}
    expected = bct.fit(alone, own, images(), ONE_STEP, **given).history
    assert history == [pytest.approx(row) for row in expected]
    torch.testing.assert_close(weights(network.extract(path), classifier), weights(alone, own), rtol=1e-5, atol=1e-6)
    unused = {name for name, each in network.named_parameters() if torch.equal(each, before.get_parameter(name))}
    kinds = {(block, choice.split("@")[0]) for block, choice in enumerate(path)}
    others = {(int(name.split(".")[1]), name.split(".")[2]) for name in unused if name.startswith("blocks")}
    assert others >= {(block, kind) for block in (0, 1) for kind in ("3", "5", "7", "x")} - kinds
    assert network.path == start == network.start
    assert not network.training


def test_every_step_draws_a_path_and_the_seed_decides_them():
    long = Recipe(epochs=6, batch_size=8, learning_rate=0.01)
    first, _, _ = fitted(supernet(), long)
    same, _, _ = fitted(supernet(), long)
    other, _, _ = fitted(supernet(), long, seed=1)
    assert len(first) == 6 * (len(images()) // 8)
    assert first == same != other
    assert len(set(first)) > len(first) / 3


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path):
    whole, cut = supernet(), supernet()
    fitted(whole)

    def stop(share, text):
        if share > 0.5:
            raise KeyboardInterrupt

    given = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        fitted(cut, report=stop, **given)
    last = supernet()
    fitted(last, **given)
    assert torch.equal(weights(last), weights(whole))
