"""One walker of hints: what it takes and refuses, and the words of what would be accepted."""

from typing import Any, Literal, NotRequired, TypedDict

import pytest

from ivmix.models.hints import fits, in_words


class Entry(TypedDict):
    name: str
    size: NotRequired[int]


@pytest.mark.parametrize(
    ("value", "hint", "most", "fine"),
    [
        (3, int, None, True), (True, int, None, False), (3, float, None, True), ("3", float, None, False),
        (-3, int, None, True), (-3, int, 9, False), (0.5, float, 9, True), (10, int, 9, False),
        (float("nan"), float, 9, False), (None, int | None, 9, True), (None, None, None, True),
        ("a", Literal["a", "b"], None, True), ("c", Literal["a", "b"], None, False), (object(), Any, None, True),
        ([], list[int], None, True), ([1, "2"], list[int], None, False), ((), tuple[int, ...], None, False),
        ((1, 2), tuple[int, ...], None, True), ([1, 2], tuple[int, ...], None, False),
        ({"a": [1]}, dict[str, list[int]], None, True), ({"a": 1}, dict[str, list[int]], None, False),
        ({"name": "a"}, Entry | None, None, True), ({"size": 1}, Entry, None, False),
        ({"name": "a", "length": 1}, Entry, None, False), ({"name": "a", "size": 0}, Entry, 9, False),
    ],
)  # fmt: skip
def test_a_value_is_what_its_hint_says_or_is_not(value: object, hint: Any, most: int | None, fine: bool) -> None:
    assert fits(value, hint, most) is fine


@pytest.mark.parametrize(
    ("hint", "most", "words"),
    [
        (int | None, None, "a whole number or null"), (float, 1000, "a number above 0, at most 1,000"),
        (tuple[int, ...] | int, 10, "a list, each a whole number from 1 to 10 or a whole number from 1 to 10"),
        (list[str], None, "a list, each text"), (Literal["a", 2], None, "'a' or 2"), (Entry, None, "an object"),
        (dict[str, int], None, "an object"), (bool, None, "true or false"), (Exception, None, "Exception"),
    ],
)  # fmt: skip
def test_a_hint_is_said_in_words(hint: Any, most: int | None, words: str) -> None:
    assert in_words(hint, most) == words
