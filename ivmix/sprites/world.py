"""The procedural world of the embedded pair: one striped sprite moving on a muted gradient, with exact ground truth.

64x64 pixels, 8 frames. Everything that is drawn is a tensor of `Scenes`, so colour, shape, motion and the position in
every frame are known exactly. `degrade` is what web video is to a real video model: soft, flat and watermarked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE, FRAMES = 64, 8
COLOURS = {
    "red": (0.90, 0.15, 0.15),
    "green": (0.15, 0.75, 0.20),
    "blue": (0.15, 0.30, 0.95),
    "yellow": (0.95, 0.85, 0.15),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
WORDS = ("a", *COLOURS, *SHAPES, "moving", *MOTIONS)

RADIUS = (11.0, 14.0)  # pixels
SPEED = (4.0, 5.2)  # pixels a frame
STRIPES, OUTLINE = 8.0, 2.0  # pixels: the period of light and dark stripes, the width of the dark edge
BLUR_SIGMA, CONTRAST, WATERMARK_ALPHA = 1.6, 0.7, 0.28
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Scenes:
    """A batch of b scenes. Indices point into COLOURS, SHAPES and MOTIONS; lengths are pixels, colours in [0, 1]."""

    colour: Tensor  # (b,) int64
    shape: Tensor  # (b,) int64
    motion: Tensor  # (b,) int64
    radius: Tensor  # (b,)
    position: Tensor  # (b, f, 2), x right and y down, of the sprite's centre
    stripe_phase: Tensor  # (b,) pixels
    background: Tensor  # (b, 2, 3), the colours at the two ends of the gradient
    angle: Tensor  # (b,) of the gradient, radians

    def __len__(self) -> int:
        return len(self.colour)

    def __getitem__(self, rows: slice | Tensor) -> "Scenes":
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def at(self, frame: Tensor) -> "Scenes":
        """The same scenes with one frame each, `frame` (b,) of the clip."""
        rows = torch.arange(len(self), device=frame.device)
        return replace(self, position=self.position[rows, frame][:, None])

    def to(self, device: torch.device) -> "Scenes":
        return Scenes(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def captions(self) -> list[str]:
        """["a red circle moving left", ...]"""
        colours, motions = list(COLOURS), list(MOTIONS)
        rows = zip(self.colour.tolist(), self.shape.tolist(), self.motion.tolist(), strict=True)
        return [f"a {colours[c]} {SHAPES[s]} moving {motions[m]}" for c, s, m in rows]


def parse(caption: str) -> tuple[int, int, int]:
    """Indices of colour, shape and motion. Raises ValueError for anything but "a COLOUR SHAPE moving DIRECTION"."""
    match caption.lower().split():
        case ["a", colour, shape, "moving", motion] if colour in COLOURS and shape in SHAPES and motion in MOTIONS:
            return list(COLOURS).index(colour), SHAPES.index(shape), list(MOTIONS).index(motion)
    raise ValueError(
        f"{caption!r} is no caption of this world: expected 'a {{{'|'.join(COLOURS)}}} {{{'|'.join(SHAPES)}}} "
        f"moving {{{'|'.join(MOTIONS)}}}'"
    )


def all_captions() -> list[str]:
    return [f"a {c} {s} moving {m}" for c in COLOURS for s in SHAPES for m in MOTIONS]


@lru_cache(maxsize=1)
def balanced_captions() -> tuple[str, ...]:
    """All captions, ordered so that few clips are a fair sample: 4 from a multiple of 4 on show every colour, shape and
    motion once, 16 from a multiple of 16 on every pair of them.

    Colour, shape and motion are a, a + b and 2 a + b + c in the field of four elements: orthogonal Latin squares.
    """
    double, four = (0, 2, 3, 1), range(4)  # in that field, where + is ^
    names = all_captions()
    return tuple(names[16 * a + 4 * (a ^ b) + (double[a] ^ b ^ c)] for c in four for b in four for a in four)


def random_scenes(n: int, generator: torch.Generator, captions: Sequence[str] | None = None) -> Scenes:
    """n scenes drawn on the CPU from `generator`; with `captions` (n of them) only what they leave open is random."""

    def uniform(*shape: int, between: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        return between[0] + (between[1] - between[0]) * torch.rand(shape, generator=generator)

    colour, shape, motion = (torch.randint(4, (n,), generator=generator) for _ in range(3))
    if captions is not None:
        if len(captions) != n:
            raise ValueError(f"{len(captions)} captions for n={n} scenes: give one a scene")
        colour, shape, motion = torch.tensor([parse(c) for c in captions], dtype=torch.int64).reshape(n, 3).unbind(1)
    radius, speed = uniform(n, between=RADIUS), uniform(n, between=SPEED)

    # The path's midpoint is drawn so that the centre stays `margin` from the edge; across the path it is free to roam.
    margin, half = 12.0, speed * (FRAMES - 1) / 2
    direction = torch.tensor(list(MOTIONS.values()))[motion]  # (b, 2)
    room = SIZE / 2 - margin - direction.abs() * half[:, None]
    middle = SIZE / 2 + room.clamp(min=0) * uniform(n, 2, between=(-1.0, 1.0))
    offsets = (torch.arange(FRAMES) - (FRAMES - 1) / 2)[None, :, None] * speed[:, None, None]
    position = middle[:, None] + direction[:, None] * offsets

    grey = uniform(n, 2, 1, between=(0.30, 0.70))
    background = (grey + uniform(n, 2, 3, between=(-0.10, 0.10))).clamp(0, 1)
    phase, angle = uniform(n, between=(0.0, STRIPES)), uniform(n, between=(0.0, 2 * torch.pi))
    return Scenes(colour, shape, motion, radius, position, phase, background, angle)


def some_clips(scenes: int = 6, seed: int = 77) -> Tensor:
    """Crisp clips, then the same degraded, (2·scenes 3 f h w) in [-1, 1]: what bridges between latents are measured
    on."""
    clips = render(random_scenes(scenes, torch.Generator().manual_seed(seed)))
    return torch.cat([clips, degrade(clips)])


def signed_distance(shape: Tensor, radius: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Distance to the sprite's edge in pixels, negative inside; all arguments broadcast together."""
    ax, ay, bar = dx.abs(), dy.abs(), 0.36 * radius
    circle = torch.hypot(dx, dy) - radius
    square = torch.maximum(ax, ay) - 0.85 * radius
    triangle = torch.maximum(0.866 * ax - 0.5 * dy, dy) - 0.62 * radius
    cross = torch.minimum(torch.maximum(ax - radius, ay - bar), torch.maximum(ax - bar, ay - radius))
    return torch.stack([circle, square, triangle, cross]).gather(0, shape.expand_as(circle)[None])[0]


def render(scenes: Scenes, size: int = SIZE) -> Tensor:
    """Crisp clips (b 3 f size size) in [-1, 1], antialiased by supersampling; the whole world at any size."""
    grid = (torch.arange(size * SUPERSAMPLE, device=scenes.radius.device) + 0.5) / SUPERSAMPLE * (SIZE / size)
    y, x = grid[:, None], grid[None, :]

    def per_scene(values: Tensor) -> Tensor:
        return values[:, None, None, None]  # (b 1 1 1), against (b f h w)

    dx, dy = x - scenes.position[..., 0, None, None], y - scenes.position[..., 1, None, None]
    distance = signed_distance(per_scene(scenes.shape), per_scene(scenes.radius), dx, dy)
    light = ((dx + per_scene(scenes.stripe_phase)).remainder(STRIPES) < STRIPES / 2).to(dx.dtype)
    shade = torch.where(distance < -OUTLINE, 0.55 + 0.45 * light, 0.12)[:, None]
    paint = torch.tensor(list(COLOURS.values()), device=dx.device)[scenes.colour][:, :, None, None, None]

    along = (x - SIZE / 2) * scenes.angle.cos()[:, None, None] + (y - SIZE / 2) * scenes.angle.sin()[:, None, None]
    ramp = (along / (SIZE * 2**0.5) + 0.5)[:, None, None]  # (b 1 1 h w) in [0, 1]
    start, end = (scenes.background[:, i, :, None, None, None] for i in (0, 1))
    image = torch.where((distance < 0)[:, None], shade * paint, start + (end - start) * ramp)
    image = F.avg_pool2d(image.flatten(1, 2), SUPERSAMPLE).unflatten(1, (3, -1))
    return 2 * image - 1


# "stock" in a font of 3x5 dots, as web video is watermarked.
GLYPHS = (
    "###.###.###.###.#.#",
    "#....#..#.#.#...##.",
    "###..#..#.#.#...#..",
    "..#..#..#.#.#...##.",
    "###..#..###.###.#.#",
)


def watermark_mask(device: torch.device | None = None, size: int = SIZE) -> Tensor:
    """(size, size) of zeros and ones: the word across the lower middle of the frame. `size` is a multiple of 32."""
    dots = torch.tensor([[char == "#" for char in row] for row in GLYPHS], dtype=torch.float32, device=device)
    rows = torch.kron(dots, torch.ones(size // 32, size // 32, device=device))
    mask = torch.zeros(size, size, device=device)
    top, left = 18 * size // 32, (size - rows.shape[1]) // 2
    mask[top : top + rows.shape[0], left : left + rows.shape[1]] = rows
    return mask


def degrade(video: Tensor, softness: Tensor | float = 1.0, watermark: Tensor | float = 1.0) -> Tensor:
    """What web video does to a clip (b c f h w) in [-1, 1], rendered at any size: blur, lost contrast, a watermark.

    `softness` and `watermark` are amounts in [0, 1], numbers or (b,); 1 is the world's full degradation.
    """

    def amount(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, dtype=video.dtype, device=video.device).reshape(-1, 1, 1, 1, 1)

    size = video.shape[-1]
    sigma = BLUR_SIGMA * size / SIZE
    reach = int(4 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=video.device) / sigma) ** 2)
    taps = (taps / taps.sum()).to(video.dtype)
    rows = F.pad(video.flatten(0, 2)[:, None], (reach,) * 4, mode="replicate")
    soft = F.conv2d(F.conv2d(rows, taps[None, None, None]), taps[None, None, :, None])[:, 0].reshape(video.shape)
    video = video + amount(softness) * (CONTRAST * soft - video)
    opacity = amount(watermark) * WATERMARK_ALPHA * watermark_mask(video.device, size).to(video.dtype)
    return video + opacity * (1 - video)
