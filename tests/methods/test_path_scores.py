"""Scores of paths by the slow way, recalibration, the record of a search."""

import copy

import pytest
import torch
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.data.splits import for_search
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import path_scores
from compatlib.methods.path_scores import Judge, recalibrate
from compatlib.models.resnet import small_resnet
from compatlib.models.supernet import SuperNet
from compatlib.training import initialised

SMALL = {"widths": (8, 12), "blocks": (1, 1), "strides": (1, 2), "middles": (0.5, 1), "stem_width": 6, "image_size": 8}
CLASSES = tuple(f"class {number}" for number in range(20))


def images(count: int = 40, classes: range = range(10, 14), seed: int = 0) -> ImageSet:
    """A class is a pattern under noise; its images are neighbours."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) * len(classes) // count + classes.start
    patterns = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    pixels = 60 + 120 * patterns[labels] + 40 * torch.randn(count, 3, 8, 8, generator=random)
    return ImageSet(pixels.clamp(0, 255).to(torch.uint8), labels, CLASSES)


def supernet(**sizes) -> SuperNet:
    return initialised(lambda: SuperNet(**SMALL | {"dim": 6} | sizes), 0, "supernet").eval()


def gallery_model(dim: int = 6) -> nn.Module:
    return initialised(lambda: small_resnet(widths=(8,), dim=dim), 0, "gallery").eval()


def judge(**options) -> Judge:
    given = {"images": images(), "calibration": images(60, range(0, 6), 1), "batch_size": 20}
    return Judge(options.pop("network", None) or supernet(), **given | {"gallery_backbone": gallery_model()} | options)


# Recalibration.


def test_recalibrated_statistics_are_those_of_the_images_and_of_the_path_alone():
    network, given = supernet(), images(60, range(0, 6), 1)
    path = ("5@0.5", "x@1")
    before = copy.deepcopy(network.state_dict())
    with network.at(path) as own:
        recalibrate(own, given, batch_size=60)
        maps = own.trunk[0][0](given.images.float() / 255 / 0.25 - 2)
    found = network.stem[1]
    torch.testing.assert_close(found.running_mean, maps.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.running_var, maps.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}
    kinds = {tuple(name.split(".")[1:3]) for name in moved if name.startswith("blocks")}
    assert kinds == {("0", "5"), ("1", "x")}
    assert not any(".norms.1." in name for name in moved if name.startswith("blocks.0"))
    assert not any(part.training for part in network.modules())
    assert network.stem[1].momentum == 0.1


def test_recalibration_takes_means_over_whole_batches_of_mixed_classes():
    network, given = supernet(), images(50, range(0, 5), 1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:40]
    recalibrate(network.extract(network.start), given, batch_size=20)  # a copy: nothing moves
    assert float(network.stem[1].running_mean.abs().sum()) == 0
    with network.at(network.start) as own:
        recalibrate(own, given, batch_size=20)
    maps = network.stem[0](given.images[order].float() / 255 / 0.25 - 2)
    mean = torch.stack([each.var(dim=(0, 2, 3)) for each in maps.split(20)]).mean(dim=0)
    torch.testing.assert_close(network.stem[1].running_var, mean, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no image to recalibrate by"):
        recalibrate(network, given.select(torch.arange(0)))


# The judge.


@pytest.mark.parametrize("metric", path_scores.METRICS)
def test_a_score_is_that_of_the_extracted_network_the_slow_way(metric):
    judged = judge(metric=metric)
    for path in (("3@1", "x@0.5"), ("7@0.5", "5@1")):
        own = recalibrate(judged.network.extract(path), judged.calibration, batch_size=20)
        vectors, items = embed(own, judged.images), embed(judged.gallery_backbone, judged.images)
        labels = judged.images.labels
        expected = [evaluate(vectors, each, labels, labels, exclude_self=True) for each in (vectors, items)]
        found = judged(path)
        assert (found.self_test, found.cross_test) == pytest.approx([each.metrics()[metric] for each in expected])
        assert (found.path, found.flops) == (" ".join(path), judged.network.flops(path))


def test_a_gallery_of_its_own_and_of_another_size_is_met_in_the_first_coordinates():
    items = images(30, seed=4)
    judged = judge(gallery=items, gallery_backbone=gallery_model(4), calibration=None)
    found = judged(("3@1", "3@1"))
    with judged.network.at(("3@1", "3@1")) as own:
        vectors, own_items = embed(own, judged.images), embed(own, items)
    labels = judged.images.labels, items.labels
    expected = evaluate(vectors[:, :4], embed(judged.gallery_backbone, items), *labels).mean_average_precision
    assert found.cross_test == pytest.approx(expected)
    assert found.self_test == pytest.approx(evaluate(vectors, own_items, *labels).mean_average_precision)


def test_the_judge_leaves_the_network_as_it_was():
    network = supernet().switch(("5@1", "7@0.5")).train()
    before = copy.deepcopy(network.state_dict())
    judge(network=network)(("3@1", "x@0.5"))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.path == ("5@1", "7@0.5")
    assert all(part.training for part in network.modules())


def test_a_class_that_was_trained_on_does_not_choose():
    with pytest.raises(ValueError, match=r"search set has classes of the training images \(class 13\)"):
        judge(calibration=images(classes=range(13, 20)))
    whole = images(200, range(0, 20))
    split = for_search(whole, images(100, range(0, 20), 5), calibration=30)
    judge(images=split.search, calibration=split.calibration)
    with pytest.raises(ValueError, match=r"a search needs classes of its own, such as data\.splits\.for_search gives"):
        judge(images=split.train, calibration=split.calibration)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="metric"):
        judge(metric="cmc@3")


# The record.


def test_the_record_spares_the_work_and_joins_what_several_processes_write(tmp_path, monkeypatch):
    record = tmp_path / "deep" / "scores.json"
    first, second = judge(record=record), judge(record=record)
    one, two = ("3@1", "3@1"), ("5@1", "5@1")
    scores = [first(one), second(two)]
    assert sorted(path.name for path in record.parent.iterdir()) == ["scores.json"]
    monkeypatch.setattr(path_scores, "embed", None)
    third = judge(record=record)
    assert [third(one), third(two)] == scores
    assert first(two) == scores[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "cmc@1"}, "metric differ"),
        ({"images": images(seed=3)}, "images differ"),
        ({"calibration": None}, "calibration, network differ"),
        ({"gallery_backbone": small_resnet(widths=(8,), dim=6)}, "gallery model differ"),
        ({"network": SuperNet(**SMALL, dim=6)}, "network differ"),
    ],
)
def test_a_record_of_another_search_is_refused_and_left(tmp_path, change, words):
    record = tmp_path / "scores.json"
    judge(record=record)(("3@1", "3@1"))
    before = record.read_bytes()
    with pytest.raises(ValueError, match=f"scores of another search: {words}; it is left as it is"):
        judge(record=record, **change)
    assert record.read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"identity": {}, "scores": [{"path": "3@1"}]}'])
def test_a_damaged_record_is_refused_and_left(tmp_path, content):
    record = tmp_path / "scores.json"
    record.write_text(content)
    with pytest.raises(ValueError, match=r"scores.json is no record of a search, or damaged .*give another file"):
        judge(record=record)
    assert record.read_text() == content


def test_a_full_disk_leaves_the_record_of_before(tmp_path, full_disk):
    judged = judge(record=tmp_path / "scores.json")
    judged(("3@1", "3@1"))
    before = judged.record.read_bytes()
    with full_disk(10), pytest.raises(OSError, match=r"scores.json could not be written"):
        judged(("5@1", "3@1"))
    assert judged.record.read_bytes() == before
