"""The search: a judge's scores by the slow way, whom evolution lets have children, equal searches after a kill."""

import copy
import itertools
import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.data.splits import for_search
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import architecture_search, cmp_nas
from compatlib.methods.architecture_search import Evolution, Judge, Score, evolve, random_search, recalibrate
from compatlib.models.resnet import small_resnet
from compatlib.models.supernet import SuperNet
from compatlib.training import initialised

SMALL = {"widths": (8, 12), "blocks": (1, 1), "strides": (1, 2), "middles": (0.5, 1), "stem_width": 6, "image_size": 8}
SHORT = Evolution(population=6, generations=4, parents=3, crossovers=2, mutations=2, mutation_rate=0.5)
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


class Counting:
    """A judge without a model: the share of blocks that are as in `best`, with noise of the path's own."""

    def __init__(self, blocks: int = 6) -> None:
        sizes = {"blocks": (blocks,), "widths": (8,), "strides": (1,), "middles": (0.25, 0.5, 0.75, 1)}
        self.network, self.judged = SuperNet(**SMALL | sizes), []
        self.best = self.network.random_path(torch.Generator().manual_seed(99))

    def __call__(self, path) -> Score:
        self.judged.append(path)
        share = sum(a == b for a, b in zip(path, self.best, strict=True)) / len(path)
        return Score(" ".join(path), 1 - share / 2, share, self.network.flops(path), 0.0)


def paths(search) -> list[tuple[str, ...]]:
    return [tuple(row["path"].split()) for row in search.history]


def without_seconds(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


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


@pytest.mark.parametrize("metric", architecture_search.METRICS)
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


def test_no_path_is_judged_twice_and_the_gallery_model_embeds_once(monkeypatch):
    embedded = []

    def noted(backbone, *given, **options):
        embedded.append(backbone)
        return embed(backbone, *given, **options)

    monkeypatch.setattr(architecture_search, "embed", noted)
    judged = judge()
    searches = [evolve(judged, 1e9, seed=0, reward=reward, evolution=SHORT) for reward in architecture_search.REWARDS]
    searches.append(random_search(judged, 1e9, seed=0, evolution=SHORT))
    different = {path for search in searches for path in paths(search)}
    assert sum(backbone is judged.gallery_backbone for backbone in embedded) == 1
    assert len(embedded) == 1 + len(different) < 1 + sum(len(search.history) for search in searches)


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
    monkeypatch.setattr(architecture_search, "embed", None)
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


def search(record, kill_after: int = 0):
    """A search; after so many paths the process ends by SIGKILL."""
    told = []

    def report(share, text):
        told.append((share, text))
        if len(told) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    return evolve(judge(record=record), 80_000, seed=3, reward="R3", evolution=SHORT, report=report), told


def scores_after(record, kill_after: int = 0) -> list[dict]:
    """What the record holds after a process of its own has searched, or was killed."""
    process = multiprocessing.get_context("fork").Process(target=search, args=(record, kill_after))
    process.start()
    process.join(100)
    assert process.exitcode == (-signal.SIGKILL if kill_after else 0)
    return json.loads(record.read_text())["scores"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_searches_that_were_killed_go_on_to_the_same_populations(tmp_path, monkeypatch):
    whole, cut, before = tmp_path / "whole.json", tmp_path / "cut.json", []
    for lived in (4, 13, 20, 0):  # within the first generation, later, and to the end
        scores = scores_after(cut, lived)
        assert len(scores) == (lived or 24)
        assert scores[: len(before)] == before  # nothing is judged again
        before = scores
    scores_after(whole)
    monkeypatch.setattr(architecture_search, "embed", None)  # all is there
    (expected, told), (found, again) = search(whole), search(cut)
    assert without_seconds(found.history) == without_seconds(expected.history)
    assert found.best == expected.best
    assert again == told
    assert told[8][0] == 9 / 24
    assert told[8][1].startswith("generation 2 of 4, path 3 of 6, best R3 0.")


# Evolution.


def test_every_path_is_new_and_under_the_cap_and_counted():
    judged = Counting()
    cap = judged.network.flops(judged.network.start)
    evolution = Evolution(population=10, generations=5, parents=4, crossovers=4, mutations=3)
    found = evolve(judged, cap, seed=1, evolution=evolution)
    assert len(judged.judged) == len(set(judged.judged)) == 50
    assert max(row["flops"] for row in found.history) <= cap
    assert [row["generation"] for row in found.history] == sorted([1, 2, 3, 4, 5] * 10)
    assert [row["number"] for row in found.history] == [*range(1, 11)] * 5
    origins = [row["origin"] for row in found.history]
    assert origins[:20] == ["random"] * 10 + ["crossover"] * 4 + ["mutation"] * 3 + ["random"] * 3
    assert list(found.history[0]) == [
        *("generation", "number", "origin", "path", "self_test", "cross_test", "flops", "seconds", "reward")
    ]
    assert " ".join(found.best) == max(found.history, key=lambda row: row["reward"])["path"]


def test_children_are_those_of_the_best_so_far():
    evolution = Evolution(population=20, generations=4, parents=3, crossovers=10, mutations=10, mutation_rate=0.2)
    found = evolve(Counting(), 1e9, seed=2, evolution=evolution)
    moved = []
    for generation in (2, 3, 4):
        before = [row for row in found.history if row["generation"] < generation]
        best = sorted(before, key=lambda row: -row["reward"])[:3]
        parents = [tuple(row["path"].split()) for row in best]
        for row in (row for row in found.history if row["generation"] == generation):
            path = tuple(row["path"].split())
            if row["origin"] == "crossover":
                pairs = [zip(path, a, b, strict=True) for a in parents for b in parents]
                assert any(all(own in (one, other) for own, one, other in pair) for pair in pairs)
            elif row["origin"] == "mutation":
                differing = [sum(a != b for a, b in zip(path, parent, strict=True)) for parent in parents]
                moved.append(min(differing))
    assert min(moved) >= 1
    assert 1.2 < sum(moved) / len(moved) < 2  # a fifth of six blocks, and never none


def test_evolution_finds_more_than_chance_at_as_many_paths():
    evolution = Evolution(population=20, generations=6, parents=5, crossovers=10, mutations=10)
    best = dict.fromkeys((evolve, random_search), 0.0)
    for search, seed in itertools.product(best, (0, 1)):
        found = search(Counting(), 1e9, seed=seed, evolution=evolution)
        best[search] += max(row["reward"] for row in found.history) / 2
    assert best[evolve] >= best[random_search] + 0.2


def test_rewards_are_those_of_the_text_and_begin_alike():
    judged = Counting()
    searches = {reward: evolve(judged, 1e9, seed=0, reward=reward, evolution=SHORT) for reward in cmp_nas.REWARDS}
    for reward, found in searches.items():
        for row in found.history:
            own, cross = row["self_test"], row["cross_test"]
            assert row["reward"] == {"R1": own, "R2": cross, "R3": own * cross}[reward]
    firsts = [paths(found)[:6] for found in (*searches.values(), random_search(judged, 1e9, seed=0, evolution=SHORT))]
    assert firsts == [firsts[0]] * 4
    assert paths(searches["R1"]) != paths(searches["R2"])


def test_a_seed_decides():
    first, same, other = (evolve(Counting(), 1e9, seed=seed, evolution=SHORT).history for seed in (5, 5, 6))
    assert first == same != other


def test_random_search_draws_all_anew():
    found = random_search(Counting(), 1e9, seed=0, evolution=SHORT)
    assert {row["origin"] for row in found.history} == {"random"}
    assert len(set(paths(found))) == 24


def test_a_space_is_searched_to_its_last_path_and_no_further():
    judged = Counting(blocks=1)  # 16 paths
    everything = Evolution(population=4, generations=4, parents=2, crossovers=1, mutations=1)
    found = evolve(judged, 1e9, seed=0, evolution=everything)
    assert set(paths(found)) == {(choice,) for choice in judged.network.choices}
    assert found.best == judged.best
    with pytest.raises(ValueError, match=r"only 0 of 4 new paths were found .* with 16 judged before; raise the cap"):
        evolve(judged, 1e9, seed=0, evolution=replace(everything, generations=5))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_flops": 10}, r"max_flops is 10; the cheapest path has [\d,]+: raise the cap"),
        ({"max_flops": float("nan")}, "max_flops is nan"),
        ({"reward": "R4"}, "R4.*R1"),
    ],
)
def test_wrong_arguments_of_a_search(given, words):
    with pytest.raises(ValueError, match=words):
        evolve(Counting(), **{"max_flops": 1e9, "seed": 0} | given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"population": 0}, "population"),
        ({"parents": 2.5}, "parents"),
        ({"mutations": -1}, "mutations"),
        ({"crossovers": 30}, "30 crossovers and 25 mutations are more than the population of 50; ask for fewer"),
        ({"mutation_rate": 0.0}, r"mutation_rate must lie in \(0, 1\], got 0.0"),
    ],
)
def test_wrong_sizes_of_an_evolution(given, words):
    with pytest.raises(ValueError, match=words):
        Evolution(**given)
