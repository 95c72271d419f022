"""The released recipe for re-identification: what it says, and that it trains on a tree in Market-1501's layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from compatlib.data import reidentification
from compatlib.methods import dual_tuning, independent
from compatlib.study.chapters.dual_tuning.reidentification import Reidentification, main, released, upgrade
from compatlib.training import Recipe


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Six identities of four images each to train on, three to test; smaller than published, of which is warned."""
    for folder, identities in (("bounding_box_train", range(1, 7)), ("bounding_box_test", range(7, 10))):
        for identity in identities:
            for camera in range(1, 5):
                pixels = np.random.default_rng([identity, camera]).integers(0, 256, (32, 16, 3), dtype=np.uint8)
                names = (folder, "query") if folder.endswith("test") and camera == 1 else (folder,)
                for name in names:
                    path = tmp_path / "market1501" / name / f"{identity:04d}_c{camera}s1_000001_00.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
    monkeypatch.setattr(reidentification, "_check_count", lambda *given: None)
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))
    return tmp_path


def short() -> Reidentification:
    """A few steps of the released recipe: two epochs of three, warmed up for two, a tenth in the second epoch."""
    changes = {"epochs": 2, "batch_size": 8, "warmup_steps": 2, "milestones": (1.0,), "size": (64, 32), "dim": 8}
    return released().model_copy(update=changes | {"padding": 2, "old_identities": {"market1501": 3}})


def test_the_recipe_is_the_releases():
    recipe = released()
    expected = Recipe(
        epochs=120,
        batch_size=64,
        optimizer="adam",
        learning_rate=3.5e-4,
        weight_decay=5e-4,
        schedule="steps",
        milestones=(40, 90),
        warmup_steps=2000,
    )
    assert recipe.of_loop().recipe() == expected
    assert recipe.label_smoothing == 0.1
    assert (recipe.size, recipe.per_identity, recipe.padding, recipe.erasing) == ((256, 128), 4, 10, 0.5)
    assert recipe.old_identities == {"market1501": 312, "msmt17": 502}
    # Market-1501's 12,936 images make 202 steps an epoch, so that the warm-up ends in the tenth.
    rates = {epoch: expected.rate(epoch, 1 / 202) for epoch in (0, 5, 10, 39.99, 40, 89.99, 90, 119)}
    assert rates[5] == pytest.approx(3.5e-4 * 5 * 202 / 2000)
    assert [rates[each] for each in (0, 10, 39.99)] == [0, 3.5e-4, 3.5e-4]
    assert [rates[each] for each in (40, 89.99)] == pytest.approx([3.5e-5] * 2)
    assert [rates[each] for each in (90, 119)] == pytest.approx([3.5e-6] * 2)
    with pytest.raises(ValueError, match="profile 'study' has no recipe for re-identification; 'paper' has one"):
        released("study")


def test_the_recipe_trains_old_and_new_on_a_small_tree(tree, monkeypatch):
    told = []
    for module in (independent, dual_tuning):
        fit = module.fit

        def watched(*given, fit=fit, **options):
            outcome = fit(*given, **options)
            told.append((options, outcome))
            return outcome

        monkeypatch.setattr(module, "fit", watched)
    found = upgrade("market1501", short(), folder=tree / "checkpoints")
    assert list(found["query / gallery"]) == [
        *("old / old", "new / old", "Dual-Tuning / old", "Dual-Tuning / Dual-Tuning", "new / new")
    ]
    assert found[["mAP (%)", "rank 1 (%)"]].astype(float).stack().between(0, 100).all()
    assert [options["role"] for options, _ in told] == ["old", "new", "new"]
    for options, outcome in told:
        assert options["label_smoothing"] == 0.1
        batches = options["order"](2, 8, torch.Generator().manual_seed(0))
        labels = options["images"].labels[batches]
        assert (labels.view(2, 2, 4) == labels.view(2, 2, 4)[:, :, :1]).all()  # four of an identity side by side
        rates = {row["epoch"]: row["learning_rate"] for row in outcome.history}
        # The old model's set is of one step an epoch, so that it is warmed up throughout.
        assert list(rates.values()) == pytest.approx([0, 1.75e-4] if options["role"] == "old" else [3.5e-4, 3.5e-5])
    assert told[0][0]["images"].labels.unique().tolist() == [0, 1, 2]
    assert told[1][0]["images"].labels.unique().tolist() == list(range(6))
    terms = {row["term"].partition("/")[2] for row in told[2][1].history}
    assert terms == {"classification", "prototypes", "old_to_new", "new_to_old"}
    assert len(list((tree / "checkpoints").glob("*.checkpoint"))) == 3


def test_a_set_that_is_not_there_or_not_numbered_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))
    assert main(["market1501"]) == 2
    assert "get Market-1501 from" in capsys.readouterr().err
    assert main(["veri776"]) == 2
    assert "the recipe numbers the old identities of ('market1501', 'msmt17'), not of 'veri776'" in (
        capsys.readouterr().err
    )
