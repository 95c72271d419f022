"""Augmentation against an explicit loop, and its properties over seeded batches."""

import math

import pytest
import torch
from torch.nn import functional as F

from compatlib.data.augment import (
    ERASED_PIXEL,
    crop_and_flip,
    crop_flip_and_erase,
    erase,
    two_noisy_views,
    two_views,
    unchanged,
    view_with_noise,
)


def batch(seed=0, count=64, channels=3, height=9, width=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("padding", "flip"), [(4, True), (2, False), (0, True), (0, False)])
def test_every_image_is_one_of_the_crops_that_a_loop_makes(seed, padding, flip):
    images = batch(seed, count=20)
    changed = crop_and_flip(images, generator(seed), padding=padding, flip=flip)
    for image, result in zip(images, changed, strict=True):
        padded = F.pad(image, (padding,) * 4)
        crops = [
            padded[:, top : top + 9, left : left + 7]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
        # The image is mirrored about its own middle and then shifted, so that a mirrored crop is a crop of the mirror.
        candidates = crops + ([crop.flip(2) for crop in crops] if flip else [])
        assert any(torch.equal(result, candidate) for candidate in candidates)


def test_images_of_a_batch_are_moved_independently_and_uniformly():
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[0, 0, 8, 4] = 255
    changed = crop_and_flip(image.expand(9000, -1, -1, -1), generator(0), padding=4)
    rows, columns = changed.flatten(1).argmax(1) // 16, changed.flatten(1).argmax(1) % 16
    shifts = torch.bincount(rows - 4, minlength=9).double() / 9000
    torch.testing.assert_close(shifts, torch.full((9,), 1 / 9, dtype=torch.double), atol=0.015, rtol=0)
    # Mirrored images move about column 11 instead of 4; seven of their nine columns lie beyond 8.
    assert abs((columns > 8).double().mean() - 0.5 * 7 / 9) < 0.02
    pairs = torch.stack([rows, columns]).double()
    assert abs(torch.corrcoef(pairs)[0, 1]) < 0.05


def test_the_same_generator_gives_the_same_result_and_grey_images_work():
    for images in (batch(), batch(channels=1)):
        assert torch.equal(crop_and_flip(images, generator(3)), crop_and_flip(images, generator(3)))
        assert not torch.equal(crop_and_flip(images, generator(3)), crop_and_flip(images, generator(4)))


def test_no_padding_and_no_flip_change_nothing():
    images = batch()
    assert torch.equal(crop_and_flip(images, generator(0), padding=0, flip=False), images)
    assert unchanged(images, generator(0)) is images


def erased_by_a_loop(images, drawn, probability, area, aspect, log_aspect):
    """The same draws, one image and one trial at a time."""
    count, _, height, width = images.shape
    chosen = torch.rand(count, generator=drawn) < probability
    areas, aspects = torch.rand(2, 100, count, generator=drawn, dtype=torch.float64).tolist()
    corners = torch.randint(2**31, (2, count), generator=drawn).tolist()
    result = images.clone()
    for image in range(count):
        for trial in range(100):
            size = (area[0] + (area[1] - area[0]) * areas[trial][image]) * height * width
            bounds = [math.log(each) for each in aspect] if log_aspect else aspect
            ratio = bounds[0] + (bounds[1] - bounds[0]) * aspects[trial][image]
            ratio = math.exp(ratio) if log_aspect else ratio
            h, w = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
            if h < height and w < width:
                if chosen[image]:
                    top, left = corners[0][image] % (height - h + 1), corners[1][image] % (width - w + 1)
                    for channel, value in enumerate(ERASED_PIXEL):
                        result[image, channel, top : top + h, left : left + w] = value
                break
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("probability", "area", "aspect", "log_aspect"),
    [
        (0.5, (0.02, 0.4), (0.3, 1 / 0.3), False),
        (1.0, (0.02, 0.33), (0.3, 3.3), True),
        (0.9, (0.5, 0.9), (2, 9), False),
    ],
)
def test_erasing_follows_a_plain_loop(seed, probability, area, aspect, log_aspect):
    images = batch(seed, height=32, width=16)
    before = images.clone()
    options = {"probability": probability, "area": area, "aspect": aspect, "log_aspect": log_aspect}
    found = erase(images, generator(seed), **options)
    assert torch.equal(found, erased_by_a_loop(images, generator(seed), **options))
    assert torch.equal(images, before)


BLACK = torch.zeros(4000, 1, 64, 32, dtype=torch.uint8)


def rectangles(erased):
    """(top, height, left, width) of what was painted white in each image, and which were painted; (4, N), (N,)."""
    found = erased[:, 0] == 255
    sides = []
    for other in (2, 1):
        lines = found.any(other).int()
        sides += [lines.argmax(1), lines.sum(1)]
    assert torch.equal(found.sum((1, 2)), sides[1] * sides[3]), "one whole rectangle an image"
    return torch.stack(sides), found.any(2).any(1)


def test_half_of_the_images_lose_a_rectangle_anywhere_of_every_size_and_shape():
    (top, height, left, width), is_erased = rectangles(erase(BLACK, generator(0), fill=255))
    assert abs(is_erased.double().mean() - 0.5) < 0.03
    top, height, left, width = (each[is_erased].double() for each in (top, height, left, width))
    area, aspect = height * width / (64 * 32), height / width
    assert 0.015 < area.min() < 0.03
    assert 0.38 < area.max() < 0.42
    assert 0.25 < aspect.min() < 0.45
    assert 3 < aspect.max() < 3.8
    small = area < 0.15  # nearly all of these fit at the first trial
    assert abs((area[small] < 0.085).double().mean() - 0.5) < 0.06
    assert abs((aspect[small] < (0.3 + 1 / 0.3) / 2).double().mean() - 0.5) < 0.06
    for first, room in ((top, 64 - height), (left, 32 - width)):
        assert abs((first / room).mean() - 0.5) < 0.03
        assert (first == 0).any()
        assert (first == room).any()
    assert abs(torch.corrcoef(torch.stack([top, left]))[0, 1]) < 0.08


def test_by_the_logarithm_tall_and_broad_rectangles_are_as_frequent():
    options = {"probability": 1.0, "area": (0.05, 0.1), "aspect": (0.3, 3.3), "fill": 255}
    for log_aspect, expected in ((True, 0.5), (False, 0.7 / 3)):
        (_, height, _, width), _ = rectangles(erase(BLACK[:1500], generator(1), log_aspect=log_aspect, **options))
        broad = (height < width).double() + 0.5 * (height == width)
        assert abs(broad.mean() - expected) < 0.06


def test_what_never_fits_is_left_whole_and_no_probability_changes_nothing():
    images = batch(height=9, width=30)
    tall = {"probability": 1.0, "area": (0.5, 0.6), "aspect": (3.0, 3.3)}
    assert torch.equal(erase(images, generator(0), **tall), images)
    assert torch.equal(erase(images, generator(0), probability=0.0), images)


def test_the_pixel_is_rounded_to_the_type_of_the_images():
    images = torch.zeros(20, 3, 16, 8)
    exact, whole = (
        erase(each, generator(2), probability=1.0, fill=(0.25, 1.5, 2.75)) for each in (images, images.to(torch.uint8))
    )
    assert exact.amax((0, 2, 3)).tolist() == [0.25, 1.5, 2.75]
    assert whole.dtype == torch.uint8
    assert whole.amax((0, 2, 3)).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"images": batch()[0]}, r"\(3, 9, 7\)"),
        ({"probability": 1.5}, "1.5"),
        ({"area": (0.4, 0.02)}, r"area is \(0.4, 0.02\)"),
        ({"area": (0.0, 0.4)}, "area is"),
        ({"area": (0.5, 1.0)}, "area is"),
        ({"aspect": (0.0, 3.0)}, r"aspect \(0.0, 3.0\)"),
        ({"aspect": (3.0, 0.3)}, "aspect"),
        ({"fill": (1, 2)}, r"fill is \[1.0, 2.0\]; valid are one number or 3"),
        ({"fill": 256}, "torch.uint8 holds"),
        ({"images": batch(channels=1)}, "one number or 1,"),
    ],
)
def test_impossible_erasing_is_refused(wrong, word):
    with pytest.raises(ValueError, match=word):
        erase(**{"images": batch(), "generator": generator(0), **wrong})


def test_re_identification_crops_flips_and_erases_rectangular_images_in_this_order():
    images, drawn = batch(height=32, width=16), generator(5)
    expected = erase(crop_and_flip(images, drawn, padding=10), drawn)
    found = crop_flip_and_erase(images, generator(5))
    assert torch.equal(found, expected)
    assert found.shape == images.shape
    drawn = generator(6)
    expected = erase(crop_and_flip(images, drawn, padding=2, flip=False), drawn, probability=1.0, fill=0)
    found = crop_flip_and_erase(images, generator(6), padding=2, flip=False, probability=1.0, fill=0)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views_differ_and_keep_shape_and_type(channels):
    images = batch(channels=channels, height=16, width=16)
    first, second = two_views(images, generator(0))
    assert first.shape == second.shape == images.shape
    assert first.dtype == second.dtype == torch.uint8
    assert (first != second).flatten(1).any(1).all()
    again = two_views(images, generator(0))
    assert torch.equal(first, again[0])


def test_a_view_of_a_uniform_image_is_uniform():
    images = torch.full((50, 3, 12, 12), 90, dtype=torch.uint8)
    first, _ = two_views(images, generator(1))
    assert (first.flatten(2).amax(2) == first.flatten(2).amin(2)).all()
    brightness = first.double().mean((1, 2, 3))
    assert brightness.std() > 5
    assert brightness.min() >= 0.6 * 90 - 1
    assert brightness.max() <= 1.4 * 90 + 1


RAMP = (8 * torch.arange(32)).to(torch.uint8).expand(3000, 1, 32, 32)  # rises to the right; one channel: no jitter


def slopes(view):
    """Rise to the right against that of RAMP: the width of the crop in [0, 1], negative if it is mirrored."""
    columns = view.double().mean((1, 2))
    return (columns[:, 27] - columns[:, 4]) / (23 * 8)


def test_half_of_the_views_are_mirrored_and_none_is_upside_down():
    first, second = (slopes(view) < 0 for view in two_views(RAMP, generator(3)))
    for share in (first, second, first == second):
        assert abs(share.double().mean() - 0.5) < 0.04
    assert (slopes(two_views(RAMP.mT, generator(3))[0].mT) > 0).all()
    assert (slopes(two_views(RAMP, generator(3), flip=False)[0]) > 0).all()


def test_the_crops_have_20_to_100_percent_of_the_area_and_aspects_of_three_to_four():
    width = slopes(two_views(RAMP, generator(4), flip=False)[0])
    height = slopes(two_views(RAMP.mT, generator(4), flip=False)[0].mT)
    area, aspect = width * height, (width / height).log() / math.log(4 / 3)
    assert 0.19 < area.min() < area.max() < 1.01
    for bound in (0.3, 0.4, 0.6, 0.7):  # larger ones are cut where they do not fit the image
        assert abs((area < bound).double().mean() - (bound - 0.2) / 0.8) < 0.04
    assert -1.1 < aspect.min() < -0.95
    assert 0.95 < aspect.max() < 1.1
    assert abs((aspect[area < 0.7].abs() < 0.5).double().mean() - 0.5) < 0.04


def test_contrast_is_changed_in_four_of_five_views_by_up_to_two_fifths():
    stripes = torch.tensor([60, 60, 140, 140], dtype=torch.uint8).repeat(8).expand(3000, 3, 32, 32)
    for view in two_views(stripes, generator(5)):
        pixels = view.flatten(1).double()
        contrast = (pixels.amax(1) - pixels.amin(1)) / pixels.mean(1) / 0.8  # whatever crop and brightness
        assert 0.5 < contrast.min() < contrast.max() < 1.5
        for share in (contrast < 0.8, contrast > 1.2):
            assert abs(share.double().mean() - 0.8 / 4) < 0.04
        assert abs(((contrast - 1).abs() < 0.1).double().mean() - (0.2 + 0.8 / 4)) < 0.05


def test_some_views_are_grey():
    first, _ = two_views(batch(count=400, height=12, width=12), generator(2))
    spread = first.int().amax(1) - first.int().amin(1)
    share = (spread.flatten(1).amax(1) <= 1).double().mean()
    assert 0.1 < share < 0.3


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="padding"):
        crop_and_flip(batch(), generator(0), padding=-1)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        crop_and_flip(batch()[0], generator(0))
    with pytest.raises(ValueError, match="uint8"):
        two_views(batch().float(), generator(0))


# Features.


def features(seed=0, count=40, views=2, size=6):
    return torch.randn(count, views, size, generator=generator(seed)).half()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("views", [1, 2, 3])
def test_without_noise_every_item_is_one_of_its_own_views(seed, views):
    stored = features(seed, views=views)
    found = view_with_noise(stored, generator(seed), noise=0)
    assert found.dtype == torch.float32
    for item, result in zip(stored, found, strict=True):
        assert any(torch.equal(result, view.float()) for view in item)


def test_views_are_drawn_for_each_item_and_all_are_as_likely():
    stored = torch.arange(4.0).view(1, 4, 1).expand(20_000, 4, 1)
    counts = torch.bincount(view_with_noise(stored, generator(0), noise=0).flatten().long(), minlength=4)
    assert (counts / 20_000 - 0.25).abs().max() < 0.02


def test_noise_is_normal_of_the_deviation_asked_for_and_of_each_number_its_own():
    deviation = torch.tensor([0.0, 1.0, 5.0])
    noise = view_with_noise(torch.zeros(50_000, 1, 3), generator(0), deviation=deviation, noise=0.3)
    torch.testing.assert_close(noise.std(0), 0.3 * deviation, rtol=0.02, atol=0)
    torch.testing.assert_close(noise.mean(0), torch.zeros(3), rtol=0, atol=0.03)
    assert torch.corrcoef(noise[:, 1:].T)[0, 1].abs() < 0.02
    assert (noise[:, 1].abs() < 0.3).float().mean() == pytest.approx(0.683, abs=0.01)  # within one deviation


def test_features_are_augmented_by_the_generator_alone():
    same = [view_with_noise(features(), generator(3)) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], view_with_noise(features(), generator(4)))


@pytest.mark.parametrize(
    ("shape", "noise"), [((5, 6), 0.3), ((5, 2, 3, 3), 0.3), ((5, 2, 6), -0.1), ((5, 2, 6), math.nan)]
)
def test_impossible_arguments_of_features_are_refused(shape, noise):
    with pytest.raises(
        ValueError, match=r"needs features \(N, views, d\), by every encoder as many, and noise ≥ 0, got"
    ):
        view_with_noise(torch.zeros(shape), generator(0), noise=noise)


def test_of_several_encoders_the_view_is_one_draw_and_the_noise_each_ones_own():
    stored = {name: torch.arange(2.0).view(1, 2, 1).expand(5000, 2, 1) for name in ("lite0", "lite2")}
    plain = view_with_noise(stored, generator(0), deviation=dict.fromkeys(stored, 1.0), noise=0.0)
    assert torch.equal(plain["lite0"], plain["lite2"])
    noisy = view_with_noise(stored, generator(0), deviation={"lite0": 1.0, "lite2": torch.tensor([5.0])})
    noise = {name: noisy[name] - plain[name] for name in stored}
    assert torch.corrcoef(torch.stack(list(noise.values())).flatten(1))[0, 1].abs() < 0.05
    assert [float(each.std()) for each in noise.values()] == pytest.approx([0.3, 1.5], rel=0.05)


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_an_encoders_features_are_augmented_alike_alone_and_among_others(name):
    stored = {"lite0": features(1), "lite2": features(2, size=4)}
    both = view_with_noise(stored, generator(5), deviation=dict.fromkeys(stored, 2.0))
    alone = view_with_noise(stored[name], generator(5), deviation=2.0, encoder=name)
    assert torch.equal(alone, both[name])


def test_one_generator_gives_new_noise_each_time():
    random, stored = generator(0), torch.zeros(4, 1, 3)
    assert not torch.equal(view_with_noise(stored, random), view_with_noise(stored, random))


def test_unequal_encoders_are_refused():
    with pytest.raises(ValueError, match=r"by every encoder as many, and noise ≥ 0, got .*lite0.*\(40, 2, 6\).*\(39,"):
        view_with_noise({"lite0": features(), "lite2": features(count=39)}, generator(0), deviation={})


@pytest.mark.parametrize("dropped", [0.0, 0.2, 0.6])
def test_two_noisy_views_lack_their_share_of_coordinates_each_by_itself(dropped):
    stored, mean = 5 + torch.rand(400, 2, 30, generator=generator(0)), torch.full((30,), -7.0)
    first, second = two_noisy_views(stored, generator(1), mean=mean, noise=0.1, dropped=dropped)
    assert first.dtype == second.dtype == torch.float32
    lost = [each == -7.0 for each in (first, second)]
    for each in lost:
        assert each.float().mean() == pytest.approx(dropped, abs=0.02)
    assert (lost[0] & lost[1]).float().mean() == pytest.approx(dropped**2, abs=0.02)
    kept = ~lost[0] & ~lost[1]
    assert (first - second)[kept].abs().mean() > 0.05


def test_noisy_views_of_no_noise_are_stored_views_of_the_item():
    stored = features(3)
    for view in two_noisy_views(stored, generator(2), noise=0.0, dropped=0.0):
        assert all(any(torch.equal(row, each.float()) for each in item) for row, item in zip(view, stored, strict=True))


@pytest.mark.parametrize("dropped", [-0.1, 1.0, math.nan])
def test_an_impossible_share_is_refused(dropped):
    with pytest.raises(ValueError, match=f"dropped is {dropped}; valid is a share in"):
        two_noisy_views(features(), generator(0), dropped=dropped)
