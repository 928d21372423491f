"""What the columns of a table are, in one place: unit, range, and which way is better."""

from collections.abc import Iterable

ONE_PATH = 2.0  # px of jitter from which on frames follow no path, and their net displacement is nobody's motion

LEGEND = {
    "degradation": "0 crisp, 1 as soft and flat as the video model's training clips; nearer 0 is better",
    "watermark": "0 none, 1 as strong as in the video model's training clips; nearer 0 is better",
    "residue": "grey levels (0-255) that are left of it in its place, whichever their sign; lower is better",
    "sharpness": "edges on the sprite, 1 those of the crisp world; nearer 1 is better",
    "colour": "share of frames whose sprite has the colour asked for; higher is better",
    "shape": "share of frames whose sprite has the shape asked for; higher is better",
    "identity": "share of frames that agree with the clip's most frequent colour and shape; higher is better",
    "jitter": "pixels that the sprite strays from uniform motion; lower is better",
    "motion": "share of clips whose net displacement points the way asked for; higher is better; no motion to speak of "
    f"where jitter is {ONE_PATH:g} pixels or more, as frames follow no path (`compare` shows -)",
    "flicker": "grey levels (0-255) that the background changes by from frame to frame; lower is better",
    "evaluations I+V": "guided evaluations of the image and the video model, a clip",
    "s/clip": "seconds on this machine, a clip",
}


def bullets(names: Iterable[str]) -> str:
    """A line of Markdown each of the columns that are known."""
    return "\n".join(f"- {name}: {LEGEND[name]}" for name in names if name in LEGEND)


def legend(names: Iterable[str]) -> str:
    """A line each of the columns that are known."""
    known = [name for name in names if name in LEGEND]
    width = max(map(len, known), default=0)
    return "\n".join(f"{name.ljust(width)}  {LEGEND[name]}" for name in known)
