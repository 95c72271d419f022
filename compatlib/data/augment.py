"""Augmentation of whole batches with randomness of each image's own: pad-and-crop, flips, SimCLR's two views; noise."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


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
