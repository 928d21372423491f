"""One way to show progress: a bar on a terminal, a line now and then in a log."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(total: int, show: bool = True, **options: Any) -> "tqdm[Any]":
    """A tqdm bar of `total` steps. In a file or a pipe it writes at most one line in ten seconds."""
    terminal = sys.stderr.isatty()
    pace = {"mininterval": 0.1} if terminal else {"mininterval": 10.0, "miniters": 1, "maxinterval": 10.0}
    return tqdm(total=total, disable=not show, dynamic_ncols=terminal, **{"unit": "step", **pace, **options})
