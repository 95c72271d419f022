"""Augmentation of whole batches with randomness of each image's own: crops, flips, erasing, SimCLR's views; noise."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# What re-identification erases with: the mean of ImageNet put in after standardisation (strong baseline), which is
# (0.596, 0.558, 0.497) · 255 of raw pixels (Dual-Tuning's and fast-reid's configuration).
ERASED_PIXEL = (152, 142, 127)
ERASING_TRIALS = 100


def crop_and_flip(images: Tensor, generator: torch.Generator, *, padding: int = 4, flip: bool = True) -> Tensor:
    """Shift every image by up to ± `padding` pixels (zeros enter at the border) and mirror half of them.

    The usual recipe for small images: zero padding and a random crop of the original size, then a random horizontal
    flip. Both are one gather over the batch.

    Args:
        images: (N, C, H, W) of any type, on the processor or a device.
        generator: on the processor; the same one gives the same result on every device.
        padding: pixels, ≥ 0.
        flip: whether to mirror; not for letters and digits, whose mirror image is another sign.

    Returns:
        (N, C, H, W), the same type.

    Raises:
        ValueError: images are not (N, C, H, W), or padding is negative.
    """
    if images.ndim != 4 or padding < 0:
        raise ValueError(f"needs images (N, C, H, W) and padding ≥ 0, got {tuple(images.shape)} and {padding}")
    count, channels, height, width = images.shape
    shifts = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < (0.5 if flip else 0.0)
    rows = torch.arange(height) + shifts[0]
    columns = torch.arange(width)
    columns = torch.where(mirrored, columns.flip(0), columns) + shifts[1]
    padded = F.pad(images, (padding,) * 4)
    flat = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).reshape(count, 1, -1).to(images.device)
    return padded.flatten(2).gather(2, flat.expand(-1, channels, -1)).view(images.shape)


def erase(
    images: Tensor,
    generator: torch.Generator,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    log_aspect: bool = False,
    fill: Sequence[float] | float = ERASED_PIXEL,
) -> Tensor:
    """Paint over a rectangle in some of the images: random erasing (Zhong et al., arXiv 1708.04896).

    Every image's rectangle has an area and an aspect of its own, both uniform; one that does not fit is drawn again, up
    to 100 times, and lies anywhere in the image with equal chance. The defaults are those of the strong baseline of
    re-identification (Luo et al. 2019, released code). Dual-Tuning publishes the probability, 0.5, and the pixel alone;
    by the names in its configuration it stands on a version of fast-reid that erases as torchvision does by default:
    `area=(0.02, 0.33)`, `aspect=(0.3, 3.3)`, `log_aspect=True` (our reading).

    Args:
        images: (N, C, H, W) of any type, on the processor or a device.
        generator: on the processor; the same one gives the same result on every device.
        probability: share of the images with a rectangle, in [0, 1].
        area: smallest and largest share of the image, in (0, 1).
        aspect: smallest and largest height / width, > 0.
        log_aspect: draw the aspect's logarithm uniformly, so that tall and broad ones are as frequent.
        fill: the pixel to paint with, one number a channel or one for all, in the images' own units; to whole numbers
            where they are such. The default is for pixels of 0 to 255 in three channels.

    Returns:
        (N, C, H, W), the same type; `images` themselves are left as they are.

    Raises:
        ValueError: images are not (N, C, H, W), a value outside its range, or a pixel of another number of channels
            or that the images' type cannot hold.
    """
    pixel = torch.atleast_1d(torch.as_tensor(fill, dtype=torch.float64))
    _check_erasing(images, probability, area, aspect, pixel)
    count, _, height, width = images.shape
    is_chosen = torch.rand(count, generator=generator) < probability
    drawn = torch.rand(2, ERASING_TRIALS, count, generator=generator, dtype=torch.float64)
    areas, (low, high) = height * width * (area[0] + (area[1] - area[0]) * drawn[0]), aspect
    aspects = low * (high / low) ** drawn[1] if log_aspect else low + (high - low) * drawn[1]
    heights, widths = (areas * aspects).sqrt().round().long(), (areas / aspects).sqrt().round().long()
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(0), torch.arange(count)  # the first that fits
    h, w = heights[first], widths[first]
    corner = torch.randint(2**31, (2, count), generator=generator)
    is_chosen &= fits.any(0)
    rows = _between(corner[0] % (height - h).clamp(min=0).add(1), h, height)
    columns = _between(corner[1] % (width - w).clamp(min=0).add(1), w, width)
    inside = (is_chosen[:, None, None] & rows[:, :, None] & columns[:, None, :])[:, None].to(images.device)
    pixel = (pixel if images.is_floating_point() else pixel.round()).to(images.device, images.dtype)
    return torch.where(inside, pixel.view(1, -1, 1, 1), images)


def crop_flip_and_erase(
    images: Tensor, generator: torch.Generator, *, padding: int = 10, flip: bool = True, **erasing: Any
) -> Tensor:
    """How re-identification augments: mirror, pad by 10 pixels and crop, erase (Dual-Tuning's and fast-reid's order).

    Args:
        images: (N, C, H, W), such as uint8 (N, 3, 256, 128).
        generator: on the processor.
        padding: as `crop_and_flip`.
        flip: as `crop_and_flip`.
        **erasing: `probability`, `fill`… as `erase`.

    Returns:
        (N, C, H, W), the same type.

    Raises:
        ValueError: as `crop_and_flip` and `erase`.
    """
    return erase(crop_and_flip(images, generator, padding=padding, flip=flip), generator, **erasing)


def unchanged(images: Tensor, generator: torch.Generator) -> Tensor:
    """No augmentation; the generator is not used."""
    return images


def view_with_noise(
    features: Tensor | Mapping[str, Tensor],
    generator: torch.Generator,
    *,
    deviation: Tensor | float | Mapping[str, Tensor] = 1.0,
    noise: float = 0.3,
    encoder: str = "",
) -> Tensor | dict[str, Tensor]:
    """One of the stored views of every item, each as likely, with normal noise: how features are augmented.

    Of several encoders' features of the same items the view is one draw an item, the noise each encoder's own; an
    encoder's are the same whether it stands alone or among others. Not published; this study's regime of heads. The
    default is that of the study's trial.

    Args:
        features: (N, views, d) of any type of floats, on the processor or a device; or those of several encoders by
            name, of equal N and views.
        generator: on the processor.
        deviation: (d,) or a number; the noise of a feature is in its multiples. By name where features are.
        noise: standard deviation of the noise, ≥ 0, of features whose deviation is 1.
        encoder: whose noise it is, where features of one are given.

    Returns:
        float32 (N, d), or these by name.

    Raises:
        ValueError: features are not (N, views, d), of several encoders unequal ones, or noise is negative.
    """
    by_name = features if isinstance(features, Mapping) else {encoder: features}
    shapes = {tuple(each.shape[:2]) for each in by_name.values()}
    if any(each.ndim != 3 for each in by_name.values()) or len(shapes) != 1 or not noise >= 0:
        told = {name: tuple(each.shape) for name, each in by_name.items()}
        raise ValueError(f"needs features (N, views, d), by every encoder as many, and noise ≥ 0, got {told}, {noise}")
    (count, views), deviations = shapes.pop(), deviation if isinstance(deviation, Mapping) else {encoder: deviation}
    view = torch.randint(views, (count,), generator=generator)
    seed, found = int(torch.randint(2**62, (), generator=generator)), {}
    for name, each in by_name.items():
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        own = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        chosen = each[torch.arange(count, device=each.device), view.to(each.device)].float()
        drawn = torch.randn(chosen.shape, generator=own).to(each.device)
        found[name] = drawn.mul_(noise * deviations[name]).add_(chosen)
    return found if isinstance(features, Mapping) else found[encoder]


def two_noisy_views(
    features: Tensor,
    generator: torch.Generator,
    *,
    deviation: Tensor | float = 1.0,
    mean: Tensor | float = 0.0,
    noise: float = 0.3,
    dropped: float = 0.2,
    encoder: str = "",
) -> tuple[Tensor, Tensor]:
    """Two independent SimCLR views of every item's features: a stored view, noise, and a share of coordinates dropped.

    Not published; this study's, where no image is at hand.

    Args:
        features: (N, views, d), as `view_with_noise` takes them of one encoder.
        generator: on the processor.
        deviation: (d,) or a number, of the noise.
        mean: (d,) or a number, what a dropped coordinate is set to.
        noise: as `view_with_noise`.
        dropped: share of an item's coordinates, in [0, 1).
        encoder: as `view_with_noise`.

    Returns:
        Two tensors float32 (N, d).

    Raises:
        ValueError: as `view_with_noise`, or a share outside [0, 1).
    """
    if not 0 <= dropped < 1:
        raise ValueError(f"dropped is {dropped}; valid is a share in [0, 1)")
    found = []
    for _ in range(2):
        view = view_with_noise(features, generator, deviation=deviation, noise=noise, encoder=encoder)
        is_kept = (torch.rand(view.shape, generator=generator) >= dropped).to(view.device)
        found.append(torch.where(is_kept, view, torch.as_tensor(mean, dtype=view.dtype, device=view.device)))
    return found[0], found[1]


def two_views(images: Tensor, generator: torch.Generator, *, flip: bool = True) -> tuple[Tensor, Tensor]:
    """Two independent SimCLR views of every image: resized crop, flip, colour jitter, grey.

    After SimCLR (Chen et al. 2020, appendix A) without the blur, as usual for 32×32 images: crop of 20–100 % of the
    area with aspect 3/4–4/3, flip with probability 1/2; of colour images brightness, contrast and saturation by a
    factor in [0.6, 1.4] with probability 0.8, grey with probability 0.2. The hue is left alone: not published for FCT's
    side-information; our choice, because it costs most and adds least on small images.

    Args:
        images: uint8 (N, 3, H, W) or (N, 1, H, W).
        generator: on the processor.
        flip: whether to mirror.

    Returns:
        Two tensors uint8 of the shape of `images`.

    Raises:
        ValueError: images are not uint8 (N, 1 or 3, H, W).
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"needs uint8 (N, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}")
    return _view(images, generator, flip), _view(images, generator, flip)


def _check_erasing(
    images: Tensor, probability: float, area: tuple[float, float], aspect: tuple[float, float], pixel: Tensor
) -> None:
    if images.ndim != 4 or not 0 <= probability <= 1:
        raise ValueError(
            f"needs images (N, C, H, W) and a probability in [0, 1], got {tuple(images.shape)} and {probability}"
        )
    if not 0 < area[0] <= area[1] < 1 or not 0 < aspect[0] <= aspect[1] < math.inf:
        raise ValueError(
            f"area is {area} and aspect {aspect}; valid are two rising shares in (0, 1), and two rising numbers > 0"
        )
    channels, limits = images.shape[1], (torch.finfo if images.is_floating_point() else torch.iinfo)(images.dtype)
    if pixel.shape not in ((1,), (channels,)) or not limits.min <= pixel.min() <= pixel.max() <= limits.max:
        raise ValueError(
            f"fill is {pixel.tolist()}; valid are one number or {channels}, one a channel, that {images.dtype} holds"
        )


def _between(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Which of the places 0 … size − 1 lie among `length` from `first` on; (N,), (N,) → bool (N, size)."""
    places = torch.arange(size)
    return (places >= first[:, None]) & (places < (first + length)[:, None])


def _view(images: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    pixels = _resized_crop(images.float() / 255, generator, flip)
    if images.shape[1] == 3:
        pixels = _jitter(pixels, generator)
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


def _resized_crop(pixels: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    count = len(pixels)
    draw = torch.rand(5, count, generator=generator)
    area = 0.2 + 0.8 * draw[0]
    aspect = torch.exp((2 * draw[1] - 1) * torch.log(torch.tensor(4 / 3)))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(draw[4] < (0.5 if flip else 0.0), -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (2 * draw[2] - 1) * (1 - width)
    theta[:, 1, 2] = (2 * draw[3] - 1) * (1 - height)
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    count = len(pixels)
    draw = torch.rand(5, count, generator=generator).to(pixels.device).view(5, count, 1, 1, 1)
    jittered = draw[3] < 0.8
    brightness, contrast, saturation = torch.where(jittered, 0.6 + 0.8 * draw[:3], 1.0)
    pixels = (pixels * brightness).clamp(0, 1)
    pixels = torch.lerp(_grey(pixels).mean((2, 3), keepdim=True).expand_as(pixels), pixels, contrast).clamp(0, 1)
    saturation = torch.where(draw[4] < 0.2, torch.zeros_like(saturation), saturation)
    return torch.lerp(_grey(pixels).expand_as(pixels), pixels, saturation)


def _grey(pixels: Tensor) -> Tensor:
    """ITU-R BT.601 luma, (N, 1, H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)
