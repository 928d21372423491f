"""What the networks of the embedded pair are shown, and what counts as an error.

The video model is shown degraded clips, as web video is to public video models. The image model draws crisp frames for
a caption and degraded ones for the empty prompt, as an empty prompt draws the average of what was scraped. Its control,
the stage "crisp", draws crisp frames for both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models import VAE
from ivmix.solvers import Schedule
from ivmix.sprites.judge import judge_loss
from ivmix.sprites.training.loop import Loss
from ivmix.sprites.training.networks import HALF, SCHEDULE, half_vae, pair_vae
from ivmix.sprites.world import FRAMES, SIZE, Scenes, all_captions, degrade, random_scenes, render


def half_loss(pair: Path, device: torch.device) -> Loss:
    """Absolute and squared error of pixels, absolute error of pixel differences (edges stay sharp), a whisper of KL.

    Single frames of half the size, half of them crisp, half degraded.
    """
    return drawing_loss(HALF, 16, device)


def drawing_loss(size: int, n: int, device: torch.device, crop: int | None = None) -> Loss:
    """Of an autoencoder by itself, on n frames a step drawn at `size`, or squares of `crop` of it: see `half_loss`."""

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(network, VAE)
        images = pictures(*some_frames(generator, device, n), size)
        if crop is not None:
            top, left = torch.randint(size - crop + 1, (2,), generator=generator).tolist()
            images = images[:, :, top : top + crop, left : left + crop]
        mean, logvar = network.moments(images)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        error = network.decode_images(mean + (0.5 * logvar).exp() * noise) - images
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return pixel_loss(error) + 1e-4 * kl, {"psnr": psnr(error), "kl": kl.detach()}

    return loss


def vae_loss(pair: Path, device: torch.device) -> Loss:
    """The whole size, without another latent space: the encoder is to find what the half-size one finds, the decoder
    draws from what that has found, and what leaks counts. The same frames as above."""
    half = half_vae(pair, device)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(network, VAE)
        scenes, degraded = some_frames(generator, device)
        images = pictures(scenes, degraded, SIZE)
        with torch.no_grad():
            moments = torch.cat(half.moments(pictures(scenes, degraded, HALF)), dim=1)
        z = moments.chunk(2, dim=1)[0]
        drawn = network.decode_images(z)
        encoder = F.mse_loss(torch.cat(network.moments(images), dim=1), moments)
        leaked = leak(network, z, drawn.detach(), generator)
        logged = {"psnr": psnr(drawn - images), "encoder": encoder.detach(), "leak": leaked.detach()}
        return pixel_loss(drawn - images) + encoder + leaked, logged

    return loss


def judge_stage_loss(pair: Path, device: torch.device) -> Loss:
    """Frames of every amount of degradation, a little noise on top so that no artefact of rendering is leant on."""

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 64
        scenes = random_frames(n, generator)
        soft, mark = (torch.rand(n, generator=generator) * 1.5 - 0.25 for _ in range(2))  # a third exactly 0 or 1
        soft, mark = soft.clamp(0, 1), mark.clamp(0, 1)
        images = degrade(render(scenes.to(device)), soft, mark)[:, :, 0]
        noise = torch.randn(images.shape, generator=generator)
        images = images + (0.06 * torch.rand(n, 1, 1, 1, generator=generator) * noise).to(device)
        reading = network(images)
        targets = (scenes.colour, scenes.shape, scenes.position[:, 0], soft, mark)
        return judge_loss(reading, *(target.to(device) for target in targets)), {}

    return loss


def image_loss(pair: Path, device: torch.device) -> Loss:
    """Epsilon prediction on single frames: crisp under their caption, degraded under the empty prompt."""
    return frame_loss(half_vae(pair, device), HALF, 1.0, device)


def crisp_loss(pair: Path, device: torch.device) -> Loss:
    """As `image_loss`, but crisp under the empty prompt too. Of the whole size: nothing but the pair is needed."""
    return frame_loss(pair_vae(pair, device), SIZE, 0.0, device)


def frame_loss(vae: VAE, size: int, degraded: float, device: torch.device) -> Loss:
    """Squared error of epsilon on frames drawn at `size`, one in six `degraded` (0 to 1) under the empty prompt."""

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 32
        scenes = random_frames(n, generator)
        null = torch.rand(n, generator=generator) < 1 / 6
        amount = degraded * null
        images = degrade(render(scenes.to(device), size), amount, amount)
        with torch.no_grad():
            x0 = vae.encode(images)
        t = torch.randint(1000, (n,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        alpha, sigma_vp = levels(t, device)
        prompts = ["" if empty else caption for empty, caption in zip(null.tolist(), scenes.captions, strict=True)]
        return F.mse_loss(network(alpha * x0 + sigma_vp * noise, t, prompts), noise), {}

    return loss


def motion_loss(pair: Path, device: torch.device) -> Loss:
    """V prediction (arXiv 2202.00512) on degraded clips, the caption dropped one time in eight.

    The first eighth of the steps shows the mean clips of captions that differ in motion alone, at the noise at which it
    is decided: nothing is in the way of learning which way is which. After that every clip is shown forwards and
    backwards under opposite captions, 40 % of the time at that noise. Clips of one batch share their noise, so that the
    gradient of what tells them apart is free of what they have in common.
    """
    vae = half_vae(pair, device)
    every = all_captions()  # in fours that differ in motion alone
    means = mean_clips(vae, every, device)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        if progress < 1 / 8:
            n, four = 1, 4 * int(torch.randint(len(every) // 4, (), generator=generator))
            x0, prompts = means[four : four + 4], every[four : four + 4]
            late = torch.ones(n, dtype=torch.bool)
        else:
            n = 2
            x0, prompts = both_ways(vae, random_scenes(n, generator), generator, device)
            late = torch.rand(n, generator=generator) < 0.4
        low = 900 * late
        t = low + (torch.rand(n, generator=generator) * (1000 - low)).long()
        return v_loss(network, x0, t, prompts, generator)

    return loss


def video_loss(pair: Path, device: torch.device) -> Loss:
    """What `motion_loss` leaves: shapes, and all noise levels, 60 % of the timesteps where a shape is decided."""
    vae = half_vae(pair, device)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        x0, prompts, n = two_shapes(vae, generator, device)
        t = timesteps(n, {(400, 900): 0.6, (900, 1000): 0.2, (0, 400): 0.2}, generator)
        return v_loss(network, x0, t, prompts, generator)

    return loss


def detail_loss(pair: Path, device: torch.device) -> Loss:
    """As `video_loss`, at less noise, and where a clip stands still an error counts four times.

    That is nearly half of the latents and a tenth of their error; what is left there is seen as flicker. Only below
    t = 600, where the clip tells by itself what moves: above, the weights would favour still clips.
    """
    vae = half_vae(pair, device)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        x0, prompts, n = two_shapes(vae, generator, device)
        t = timesteps(n, {(0, 300): 0.4, (300, 900): 0.45, (900, 1000): 0.15}, generator)
        still = x0.diff(dim=2).abs().amax(dim=(1, 2), keepdim=True) < 0.1  # (b 1 1 h w); their deviation is nearly 1
        return v_loss(network, x0, t, prompts, generator, torch.where(still, 4.0, 1.0), below=600)

    return loss


def some_frames(generator: torch.Generator, device: torch.device, n: int = 16) -> tuple[Scenes, Tensor]:
    """n scenes of one frame, and which half of them is degraded, (n,) of zeros and ones."""
    scenes = random_frames(n, generator)
    return scenes.to(device), (torch.rand(n, generator=generator) < 0.5).float()


def random_frames(n: int, generator: torch.Generator) -> Scenes:
    """n random scenes, each at a random one of its frames."""
    frame = torch.randint(FRAMES, (n,), generator=generator)
    return random_scenes(n, generator).at(frame)


def pictures(scenes: Scenes, degraded: Tensor, size: int) -> Tensor:
    """Scenes of one frame, (n c size size)."""
    return degrade(render(scenes, size), degraded, degraded)[:, :, 0]


def two_shapes(
    vae: VAE, generator: torch.Generator, device: torch.device, size: int = HALF
) -> tuple[Tensor, list[str], int]:
    """`both_ways` of two scenes, half of the time one scene as two shapes; and how many noises they are to share."""
    scenes, n = random_scenes(2, generator), 2
    if torch.rand((), generator=generator) < 0.5:
        other = (scenes.shape[0] + torch.randint(1, 4, (), generator=generator)) % 4
        scenes, n = scenes[torch.zeros(2, dtype=torch.int64)], 1
        scenes = replace(scenes, shape=torch.stack([scenes.shape[0], other]))
    return *both_ways(vae, scenes, generator, device, size), n


def both_ways(
    vae: VAE, scenes: Scenes, generator: torch.Generator, device: torch.device, size: int = HALF
) -> tuple[Tensor, list[str]]:
    """Degraded clips of n scenes, then the same backwards, and their captions, one scene in eight without:
    latents (2n c f h w)."""
    with torch.no_grad():
        x0 = vae.encode(degrade(render(scenes.to(device), size)))
    backwards = replace(scenes, motion=scenes.motion ^ 1)  # MOTIONS lists opposites side by side
    null = (torch.rand(len(scenes), generator=generator) < 1 / 8).tolist() * 2
    pairs = zip(null, scenes.captions + backwards.captions, strict=True)
    return torch.cat([x0, x0.flip(2)]), ["" if empty else caption for empty, caption in pairs]


def mean_clips(vae: VAE, captions: Sequence[str], device: torch.device) -> Tensor:
    """The latents of the mean of 32 degraded clips of each caption: all of it that is decided without looking."""
    generator = torch.Generator().manual_seed(0)
    scenes = [random_scenes(32, generator, [caption] * 32).to(device) for caption in captions]
    with torch.no_grad():
        return torch.cat([vae.encode(degrade(render(s, HALF)).mean(0, keepdim=True)) for s in scenes])


def pixel_loss(error: Tensor) -> Tensor:
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + edges


def psnr(error: Tensor) -> Tensor:
    """Of images in [-1, 1], in decibels."""
    return -10 * (error.detach().square().mean() / 4).log10()


def leak(vae: VAE, z: Tensor, drawn: Tensor, generator: torch.Generator) -> Tensor:
    """How much what is drawn of latents z (n c h w) changes far from a window of it that shows the next frame's.

    A decoder looks at the whole frame, in its attention and its norms. What moves in one place would then change the
    others a little in every frame: flicker that no video model could avoid.
    """
    h, w = z.shape[2:]
    top, left, height, width = (int(torch.randint(n, (), generator=generator)) for n in (h, w, h, w))
    rows, columns = torch.arange(h, device=z.device), torch.arange(w, device=z.device)

    def window(margin: int) -> Tensor:  # (h w), latents in it or less than a margin from it
        down = (rows >= top - margin) & (rows <= top + height // 2 + margin)
        return down[:, None] & (columns >= left - margin) & (columns <= left + width // 2 + margin)

    far = (~window(4)).float().repeat_interleave(vae.config.factor, 0).repeat_interleave(vae.config.factor, 1)
    change = vae.decode_images(torch.where(window(0), z.roll(1, 0), z)) - drawn
    return (change.abs() * far).mean() / far.mean().clamp(min=0.1)


def v_loss(
    network: nn.Module,
    x0: Tensor,
    t: Tensor,
    prompts: Sequence[str],
    generator: torch.Generator,
    weights: Tensor | None = None,
    below: int = 1000,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error of v at t (n,), of which x0 (b c f h w) has b / n clips each that share their noise.

    `weights` (b 1 1 h w) count where t is `below`.
    """
    repeats = len(x0) // len(t)
    noise = torch.randn((len(t), *x0.shape[1:]), generator=generator).to(x0.device).repeat(repeats, 1, 1, 1, 1)
    t = t.repeat(repeats)
    alpha, sigma_vp = levels(t, x0.device)
    z, v = alpha * x0 + sigma_vp * noise, alpha * noise - sigma_vp * x0
    error = (network(z, t, prompts) - v).square()
    by_clip, t = error.detach().mean(dim=(1, 2, 3, 4)), t.to(x0.device)

    def of(clips: Tensor) -> Tensor:
        return (by_clip * clips).sum() / clips.sum().clamp(min=1)

    logged = {"late": of(t >= 900), "early": of(t < 300)}
    if weights is not None:
        weights = torch.where((t < below)[:, None, None, None, None], weights, 1.0)
        error = error * weights / weights.mean(dim=(3, 4), keepdim=True)
    return error.mean(), logged


def levels(t: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """alpha and sigma_vp at integer training timesteps t (b,), shaped to multiply (b c f h w)."""
    schedule = Schedule.from_config(SCHEDULE)
    alpha, sigma_vp = (table.float()[t, None, None, None, None] for table in (schedule.alpha, schedule.sigma_vp))
    return alpha.to(device), sigma_vp.to(device)


def timesteps(n: int, shares: Mapping[tuple[int, int], float], generator: torch.Generator) -> Tensor:
    """Timesteps (n,), uniform in each of the ranges [low, high) that `shares` gives a share."""
    edges = torch.tensor(list(shares.values())).cumsum(0)[:-1]
    part = torch.bucketize(torch.rand(n, generator=generator), edges, right=True)
    low, high = torch.tensor(list(shares))[part].unbind(1)
    return low + (torch.rand(n, generator=generator) * (high - low)).long()
