"""Contact sheets and labelled grids: every frame whole, every label in its place and readable."""

import numpy as np
import pytest
from PIL import ImageFont

from ivmix.media import contact_sheet, side_by_side, upscale


def flat(colour: tuple[int, int, int], f: int = 4, h: int = 32, w: int = 32) -> np.ndarray:
    return np.full((f, h, w, 3), colour, np.uint8)


def box(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the pixels of exactly this colour."""
    ys, xs = np.nonzero((image == colour).all(-1))
    return int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1


@pytest.mark.parametrize(("f", "h", "w"), [(1, 8, 8), (8, 32, 32), (3, 512, 512), (4, 40, 200)])
def test_a_contact_sheet_shows_every_frame_whole_beside_its_label(f, h, w):
    clip = flat((0, 0, 0), f, h, w)
    clip[:, :, :, 0], clip[:, :, :, 1] = 200, 10 + np.arange(f, dtype=np.uint8)[:, None, None]
    sheet = contact_sheet([("a label that is long", clip), ("b", flat((0, 0, 255), f, h, w))])
    pixels = np.asarray(sheet)
    factor = upscale(clip, 96).shape[1] // h
    tops, lefts = [], []
    for index in range(f):
        top, bottom, left, right = box(pixels, (200, 10 + index, 0))
        assert (bottom - top, right - left) == (h * factor, w * factor)
        assert (pixels[top:bottom, left:right] == clip[index, 0, 0]).all()
        tops.append(top)
        lefts.append(left)
    assert len(set(tops)) == 1
    assert len({*np.diff(lefts)}) <= 1
    assert lefts == sorted(lefts)
    label = np.asarray(contact_sheet([("a lebal that is long", clip), ("b", flat((0, 0, 255), f, h, w))])) != pixels
    assert label.any()
    assert not label[:, lefts[0] :].any()
    assert not label[box(pixels, (0, 0, 255))[0] :].any()


@pytest.mark.parametrize(("f", "size"), [(8, 32), (16, 64), (16, 256), (16, 512), (32, 320)])
def test_labels_stay_readable_when_the_sheet_is_shown_on_a_page(f, size):
    sheet = contact_sheet([("IV-Mixed", flat((0, 0, 255), f, size, size))])
    pixels = np.asarray(sheet)
    left = box(pixels, (0, 0, 255))[2]
    ys, _ = np.nonzero((pixels[:, :left] < 160).all(-1))
    assert (ys.max() - ys.min()) * 1600 / max(sheet.width, 1600) > 9  # height of capitals, at most 1600 pixels wide


def test_clips_of_a_sheet_may_differ_and_a_long_title_is_wrapped():
    rows = [("short", flat((255, 0, 0), 2)), ("long\nand two lines", flat((0, 255, 0), 5, 64, 48))]
    plain = contact_sheet(rows)
    titled = contact_sheet(rows, title="every word of a title that is long " * 10)
    assert titled.width == plain.width
    assert titled.height > plain.height + 60
    below = np.asarray(titled)[-plain.height + 20 :]
    assert (below == np.asarray(plain)[20:]).all()
    assert (np.asarray(titled)[:, -4:] == np.asarray(titled)[0, 0]).all()  # a margin on the right


def test_side_by_side_is_a_grid_of_whole_clips():
    colours = [(255, 10 * i, 0) for i in range(5)]
    clips = [(f"clip {i}", flat(c)) for i, c in enumerate(colours)]
    for frames in (clip for _, clip in clips):
        frames[2] //= 2
    grid = side_by_side(clips)
    boxes = [box(grid[0], c) for c in colours]
    assert all((b - t, r - l) == (256, 256) for t, b, l, r in boxes)
    assert [b[0] for b in boxes[:3]] == [boxes[0][0]] * 3
    assert [b[2] for b in boxes[3:]] == [b[2] for b in boxes[:2]]
    assert all(value % 2 == 0 for b in boxes for value in b)  # whole blocks of a video's colour planes
    for (_, clip), (top, bottom, left, right) in zip(clips, boxes, strict=True):
        assert (grid[:, top:bottom, left:right] == clip[:, :1, :1]).all()
        grid[:, top:bottom, left:right] = 0
    assert (grid == grid[:1]).all()  # labels and paper stand still
    ys, _ = np.nonzero((grid[0, : boxes[0][0]] < 160).all(-1))  # and labels are whole, from the l of "clip" to its p
    assert ys.max() - ys.min() >= 14


@pytest.mark.parametrize(("n", "columns", "shape"), [(1, None, 1), (3, None, 3), (4, None, 2), (6, None, 3), (6, 2, 2)])
def test_columns_of_a_grid(n, columns, shape):
    colours = [(255, 10 * i, 0) for i in range(n)]
    grid = side_by_side([("", flat(c, 1)) for c in colours], columns=columns)
    assert len({box(grid[0], c)[2] for c in colours}) == shape


def test_a_label_wider_than_its_clip_is_not_cut():
    one, two = ("w" * 60, flat((255, 0, 0))), ("x", flat((0, 0, 255)))
    grid = side_by_side([one, two])
    other = side_by_side([("w" * 59 + "i", one[1]), two])
    assert box(grid[0], (0, 0, 255))[2] > box(other[0], (0, 0, 255))[2] > 300


@pytest.mark.parametrize(("label", "spelt"), [("café", r"caf\xe9"), ("–", r"\u2013"), ("红\n圆", "\\u7ea2\n\\u5706")])
def test_letters_that_the_font_lacks_are_spelt_out(label, spelt):
    clip = flat((0, 0, 255))
    assert contact_sheet([(label, clip)], title=label) == contact_sheet([(spelt, clip)], title=spelt)
    assert (side_by_side([(label, clip)]) == side_by_side([(spelt, clip)])).all()


def test_letters_that_the_font_has_are_drawn():
    font, clip, signs = ImageFont.load_default(20), flat((0, 0, 255)), "©«°±´·»‘’“”…‹›⁄™ﬁﬂ"
    box_for_unknown = bytes(font.getmask("\uffff"))
    assert not [k for k in [*map(chr, range(32, 127)), *signs] if bytes(font.getmask(k)) == box_for_unknown]
    for sign in signs:
        assert contact_sheet([(sign, clip)]) != contact_sheet([(sign.encode("unicode_escape").decode(), clip)])


def test_figures_refuse_what_they_cannot_lay_out():
    clip = ("a", flat((1, 2, 3)))
    for figure, name in ((contact_sheet, "rows"), (side_by_side, "clips")):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            figure([])
        with pytest.raises(ValueError, match=rf"{name}\[1\] is float64"):
            figure([clip, ("b", np.zeros((1, 2, 2, 3)))])
    with pytest.raises(ValueError, match="expected one shape for all"):
        side_by_side([clip, ("b", flat((1, 2, 3), f=5))])
    for columns in (0, 3):
        with pytest.raises(ValueError, match=f"columns is {columns}; expected 1 to 2"):
            side_by_side([clip, clip], columns=columns)
