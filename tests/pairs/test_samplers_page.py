"""The page on samplers is what it is made from."""

from pathlib import Path

from ivmix.pairs.samplers_page import page

PAGE = Path(__file__).parents[2] / "notebooks" / "samplers.md"


def test_the_page_is_what_the_declarations_and_defaults_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m ivmix.pairs.samplers_page > notebooks/samplers.md"
