"""`ivmix demo`: a page on this machine."""

import argparse
from importlib.util import find_spec
from typing import Any

from ivmix.cli.errors import explain, show_traceback
from ivmix.cli.options import add_model, load_model, say

EXAMPLES = """examples:
  ivmix demo                                   the embedded pair, offline
  ivmix demo --pair animatediff --port 8000    another pair to begin with; the page can change it
"""


def add(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="a page on which clips are drawn and compared",
        description="Serves a page to the browsers of this machine, and to no other (127.0.0.1): a prompt, a pair, a "
        "sampler with its options, and the clip beside those of other samplers from the same noise. One run at a time; "
        "others wait in line. A record fills in the page, and the page's records are those of `ivmix sample`. With the "
        "embedded pair no request leaves the machine. Needs pip install 'ivmix[demo]'. Ctrl-C ends it and removes its "
        "clips: download what you want to keep.",
        epilog=EXAMPLES,
    )
    command.add_argument("--port", type=int, metavar="N", help="where it listens (default: 7860, or the next free one)")
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if find_spec("gradio") is None:
        raise ValueError("the page needs gradio: pip install 'ivmix[demo]'")
    from ivmix.demo.serve import serve
    from ivmix.generation.text_to_video import TextToVideo

    def load(pair: str) -> TextToVideo:
        model: TextToVideo = load_model(argparse.Namespace(**{**vars(options), "pair": pair}))
        return model

    def words(error: BaseException) -> str:
        show_traceback(error)
        return explain(error, options)[1]

    serve(load, options.pair or "sprites", options.port, words, say)
