"""The old classifier, row by row and logit by logit."""

import itertools

import numpy as np
import pytest
import torch

from compatlib.study.lab.cases import case
from compatlib.study.lab.images import CLASS_INCREMENTAL, SAMPLE_INCREMENTAL, training_images
from compatlib.study.lab.make import make
from compatlib.study.lab.measures import old_classifier
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Base, Upgrade
from compatlib.study.lab.trainables.upgrades import extended

pytestmark = pytest.mark.usefixtures("keeps_trained")
FORMS = ("BCT A", "BCT B", "BCT C")


@pytest.fixture(scope="module")
def trained(tiny_run):
    return Seed(tiny_run(), 0)


def asked(trained, form, old="old", split=CLASS_INCREMENTAL) -> dict:
    own = case(Of(Upgrade(form, Base(old))), Of(Base(old)), old_classifier, split=split, distance="cosine")
    found = list(old_classifier(trained, own))
    by_cell = {
        tuple(row.get(name, "") for name in ("query_model", "gallery_model", "subset", "metric")): row["value"]
        for row in found
    }
    assert len(by_cell) == len(found)
    return by_cell


def rows_of(trained, form, old="old") -> np.ndarray:
    made = make(trained.run, Base(old), 0)[0]
    if form == "BCT A":
        return made.parts["classifier"].weight.detach().double().numpy()
    return extended(made, training_images(trained.run), form[-1]).weight.detach().double().numpy()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["old", "new"])
def test_it_is_asked_about_old_and_new_embeddings(trained, labels, masks, form, name):
    found, weight = asked(trained, form), rows_of(trained, form)
    vectors = trained.vectors(Of(Base("old") if name == "old" else Upgrade(form)), CLASS_INCREMENTAL)
    for subset in ["known"] if form == "BCT A" else list(masks):
        right, made, loss = [], [], []
        for vector, label in zip(vectors[masks[subset]], labels[masks[subset]], strict=True):
            logits = [float(row @ vector) for row in weight]
            best = max(range(len(logits)), key=logits.__getitem__)
            right.append(best == label)
            made.append(best >= 5)
            loss.append(np.log(np.exp(np.array(logits) - max(logits)).sum()) + max(logits) - logits[label])
        cell = (name, "classifier", subset)
        assert found[*cell, "classified"] == pytest.approx(np.mean(right))
        assert found[*cell, "into made rows"] == pytest.approx(np.mean(made))
        assert found[*cell, "influence loss"] == pytest.approx(np.mean(loss), rel=1e-4)
    judged = {subset for query, gallery, subset, _ in found if gallery == "classifier"}
    assert judged == ({"known"} if form == "BCT A" else set(masks))


@pytest.mark.parametrize("form", FORMS)
def test_lengths_and_likeness_of_its_rows_are_counted_row_by_row(trained, form):
    found, weight = asked(trained, form), rows_of(trained, form)
    parts = {"real rows": weight[:5], "made rows": weight[5:]}
    parts = {name: part for name, part in parts.items() if len(part)}
    assert len(parts) == (1 if form == "BCT A" else 2)
    for name, part in parts.items():
        assert found[name, name, "", "norm"] == pytest.approx(np.mean([np.linalg.norm(row) for row in part]), rel=1e-5)
    for first, second in itertools.product(parts, repeat=2):
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for (i, a), (j, b) in itertools.product(enumerate(parts[first]), enumerate(parts[second]))
            if first != second or i != j
        ]
        assert found[first, second, "", "cosine"] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert {cell[0] for cell in found if cell[3] in ("norm", "cosine")} == set(parts)


def test_the_rows_that_form_c_makes_are_as_long_as_the_real_ones(trained):
    found = asked(trained, "BCT C")
    assert found["made rows", "made rows", "", "norm"] == pytest.approx(
        found["real rows", "real rows", "", "norm"], rel=1e-5
    )


def test_an_old_model_of_all_classes_has_no_made_row(trained):
    found = asked(trained, "BCT C", "old_samples", SAMPLE_INCREMENTAL)
    assert {cell[:2] for cell in found} == {("real rows", "real rows"), ("old", "classifier"), ("new", "classifier")}
    assert found["new", "classifier", "all", "into made rows"] == 0
    assert torch.equal(
        torch.from_numpy(rows_of(trained, "BCT C", "old_samples")),
        make(trained.run, Base("old_samples"), 0)[0].parts["classifier"].weight.detach().double(),
    )
