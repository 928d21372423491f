"""Figures of clips: a contact sheet as one picture, a labelled grid as one video."""

import math
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ivmix.media.frames import Frames, check_frames, upscale

SHEET = 96  # pixels on the shorter side of a sheet's frames

_PAPER, _INK, _TITLE = (252, 252, 250), (72, 72, 76), (24, 24, 28)

# What Pillow's built-in font, a part of Aileron, can draw: it has boxes for the rest.
_UNKNOWN = re.compile("[^\n -~©«°±´·»‘’“”…‹›⁄™ﬁﬂ]")


def contact_sheet(rows: Sequence[tuple[str, Frames]], title: str | None = None) -> Image.Image:
    """One labelled row a clip, its frames from left to right, under an optional title.

    `rows` are (label, frames `f h w c`), of any lengths and sizes; a label may hold line breaks. Small frames are
    enlarged (`upscale`, to 96 pixels). The text grows with the sheet, so that it reads at any clip size. It is set in
    Pillow's built-in font, which knows ASCII and a few signs; other letters are spelt out, é as \\xe9, so that none is
    lost. Raises ValueError if there are no rows.
    """
    clips = _check_clips("rows", rows)
    labels = [_spelt(label) for label, _ in rows]
    strips = [upscale(frames, SHEET) for frames in clips]
    cell = max(frames.shape[1] for frames in strips)
    gap = max(4, cell // 24)  # between frames; everything else is in gaps
    widths = [len(frames) * (frames.shape[2] + gap) - gap for frames in strips]
    font = _font(min(max(cell / 7, max(widths) / 60), cell / 3))
    boxes = [_measure(label, font) for label in labels]
    column = max(width for width, _ in boxes)
    left = 3 * gap + column + 3 * gap if column else 3 * gap
    heights = [max(frames.shape[1], box[1]) for frames, box in zip(strips, boxes, strict=True)]
    sheet_width = left + max(widths) + 3 * gap

    title_font = _font(font.size * 1.2)
    title = _wrap(title or "", title_font, sheet_width - 6 * gap)
    title_box = _measure(title, title_font)
    top = 3 * gap + (title_box[1] + 2 * gap if title else 0)
    sheet_height = top + sum(heights) + 2 * gap * (len(rows) - 1) + 3 * gap

    sheet = Image.new("RGB", (max(sheet_width, title_box[0] + 6 * gap), sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((3 * gap, 3 * gap), title, fill=_TITLE, font=title_font)
    y = top
    for label, frames, box, height in zip(labels, strips, boxes, heights, strict=True):
        draw.multiline_text((3 * gap, y + (height - box[1]) // 2), label, fill=_INK, font=font)
        for index, frame in enumerate(frames):
            x = left + index * (frames.shape[2] + gap)
            sheet.paste(Image.fromarray(frame), (x, y + (height - frames.shape[1]) // 2))
        y += height + 2 * gap
    return sheet


def side_by_side(clips: Sequence[tuple[str, Frames]], columns: int | None = None) -> Frames:
    """A grid of labelled clips as one video: frames `f H W c`.

    `clips` are (label, frames `f h w c`) of one common shape, filled in row by row; small ones are enlarged
    (`upscale`). `columns` defaults to a single row of up to three, then to a grid about as wide as it is high. Labels
    are as in `contact_sheet`. Raises ValueError if there are no clips, if their shapes differ, or for `columns` outside
    1 … the number of clips.
    """
    shapes = {frames.shape for frames in _check_clips("clips", clips)}
    if len(shapes) != 1:
        raise ValueError(f"clips have the shapes {sorted(shapes)}; expected one shape for all")
    if columns is None:
        columns = len(clips) if len(clips) <= 3 else math.ceil(math.sqrt(len(clips)))
    if not 1 <= columns <= len(clips):
        raise ValueError(f"columns is {columns}; expected 1 to {len(clips)}, the number of clips")
    enlarged = [upscale(frames) for _, frames in clips]
    f, h, w, _ = enlarged[0].shape
    gap = 2 * max(2, min(h, w) // 40)  # even, as are h and w: see `upscale`
    font = _font(min(h, w) / 15)
    labels = [_spelt(label) for label, _ in clips]
    boxes = [_measure(label, font) for label in labels]
    head = 2 * math.ceil((max(height for _, height in boxes) + gap / 2) / 2)
    width = 2 * math.ceil(max(w, *(width for width, _ in boxes)) / 2)
    rows = math.ceil(len(clips) / columns)

    page = Image.new("RGB", (2 * gap + columns * (width + gap) - gap, 2 * gap + rows * (head + h + gap) - gap), _PAPER)
    draw = ImageDraw.Draw(page)
    cells = (divmod(k, columns) for k in range(len(clips)))
    places = [(gap + row * (head + h + gap), gap + column * (width + gap)) for row, column in cells]
    for label, box, (y, x) in zip(labels, boxes, places, strict=True):
        draw.multiline_text((x, y + head - gap // 2 - box[1]), label, fill=_INK, font=font)
    grid = np.repeat(np.asarray(page)[None], f, axis=0)
    for frames, (y, x) in zip(enlarged, places, strict=True):
        grid[:, y + head : y + head + h, x : x + w] = frames
    return grid


def _check_clips(name: str, clips: Sequence[tuple[str, Frames]]) -> list[Frames]:
    if not clips:
        raise ValueError(f"{name} is empty; expected at least one (label, frames)")
    for index, (_, frames) in enumerate(clips):
        check_frames(frames, f"{name}[{index}]")
    return [frames for _, frames in clips]


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=round(max(size, 12)))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow lacks FreeType and cannot draw labels; its wheels on PyPI have it")
    return font


def _spelt(text: str) -> str:
    """`text` with the letters that `_font` lacks as in a Python string."""
    return _UNKNOWN.sub(lambda letter: letter[0].encode("unicode_escape").decode(), text)


def _measure(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height in pixels of `text` drawn at its top left corner; the height does not depend on its letters."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, _ = draw.multiline_textbbox((0, 0), text, font=font)
    _, _, _, bottom = draw.multiline_textbbox((0, 0), re.sub(r"[^\n]+|^$", "Ag", text), font=font)
    return math.ceil(right), math.ceil(bottom)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text` with line breaks at spaces, so that its lines are at most `width` pixels unless one word is longer."""
    lines: list[str] = []
    for word in map(_spelt, text.split()):
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)
