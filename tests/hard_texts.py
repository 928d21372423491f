"""Prompts that a tokenizer may stumble over, for every tokenizer and its peer."""

import random
import sys

# Everything a person might type into a prompt, and then some.
NASTY = [
    "", "   ", "a red circle", "A  RED\t\ncircle ", "Hello, World!!!", "it's I'LL don't you're we'd they've O'Neil's",
    "it’s “quoted” — dash…", "naïve café ÀÉÎ", "e\u0301te\u0301", "ﬁne ǅ ß İI ſ", "日本語の プロンプト", "красный круг",
    "دائرة حمراء", "🔴 👩‍👩‍👧 🇨🇭 ☃️", "3.14159 1,000 10x20 １２ ⅷ x² ½", "&amp; &lt;b&gt; <b>bold</b> &#39;",
    "don't_you--think?! (x:1.2) [y] {z|w} a/b\\c", "a\x00b\x1bc\x1cd\u200be\ufefff", "a\u00a0b\u3000c\x85d\u2028e",
    "#$%^&*()_+=~`", "<|endoftext|> in <|startoftext|>text", "<|ENDOFTEXT|>", "<|endof text|>", "!", "red! blue!!!",
    "\U00010348\U0001F9FF", "क्षि", "แมว", "'s 'S 'll", "word " * 100, "photorealistic" * 12, "a" * 500,
]  # fmt: skip


def mixtures(count: int, glue: tuple[str, ...] = ("", " ", "'", "!", ".", "<", "|", ">", "7", "'s", "\n")) -> list[str]:
    """Letters from all of Unicode between those above."""
    draw = random.Random(0)
    points = [range(128), range(0x250), range(0xD800), range(0xE000, sys.maxunicode + 1)]
    texts = []
    for _ in range(count):
        letters = ["".join(chr(draw.choice(draw.choice(points))) for _ in range(draw.randrange(4))) for _ in range(4)]
        texts.append("".join(part + draw.choice(glue) for part in (*letters, draw.choice(NASTY))))
    return texts
