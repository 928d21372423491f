"""Frames at the product's edges: video files, PNG folders, contact sheets and labelled grids.

Frames are uint8 arrays `f h w c` (c = 3, RGB). Whatever is written goes to a temporary name beside its target first and
is renamed when it is whole, so that an error, Ctrl-C or a full disk leaves the target as it was. The same frames give
the same bytes: encoders run in one thread and write no dates.
"""

from ivmix.media.files import SUFFIXES, check_writable, replacing, write_image, write_text
from ivmix.media.frames import SHORTEST, Frames, enlargement, fit, to_frames, upscale
from ivmix.media.reading import Clip, count_frames, read_clip, read_frames, read_video
from ivmix.media.sheets import contact_sheet, side_by_side
from ivmix.media.writing import animated_png, check_fps, write_video

__all__ = [
    "SHORTEST",
    "SUFFIXES",
    "Clip",
    "Frames",
    "animated_png",
    "check_fps",
    "check_writable",
    "contact_sheet",
    "count_frames",
    "enlargement",
    "fit",
    "read_clip",
    "read_frames",
    "read_video",
    "replacing",
    "side_by_side",
    "to_frames",
    "upscale",
    "write_image",
    "write_text",
    "write_video",
]
