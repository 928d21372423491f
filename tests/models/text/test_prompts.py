"""Weights in prompts: the web UI's reading of every bracket, and what they do to features."""

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from torch import Tensor

from ivmix.models import CLIPText, CLIPTextConfig, Tokenizer, encode_prompts, parse_weights
from ivmix.models.text.prompts import clean, emphasise, encode, read_prompts
from ivmix.models.text.text import Text, joined, without_empty
from ivmix.models.text.tokenizer import BOS, EOS

CONFIG = CLIPTextConfig(30, 8, 16, 2, 2, 8)
WORDS = ["a", "red", "circle", "left", "(red)", "x:y"]


def byte_pairs() -> Tokenizer:
    words = [BOS, EOS, *"aredcilft ()", "re", "red"]
    backend = Backend(models.BPE({w: i for i, w in enumerate(words)}, [("r", "e"), ("re", "d")]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend, 8)


TOKENIZERS = {"closed": Tokenizer.from_words(WORDS, 8), "byte pairs": byte_pairs()}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


@pytest.fixture
def encoder(randomised: Callable[..., CLIPText]) -> CLIPText:
    """Its features have a mean of about 2, all tokens' of one sign, as a size that weights can change."""
    network = randomised(CLIPText(CONFIG))
    network.text_model.final_layer_norm.bias += 2
    return network


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("", []),
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("a (word:1.5)", [("a ", 1), ("word", 1.5)]),
        ("a (word: 1.5 )", [("a ", 1), ("word", 1.5)]),
        ("(a:-1)(b:+2)(c:.5)(d:0)", [("a", -1), ("b", 2), ("c", 0.5), ("d", 0)]),
        ("((word))", [("word", 1.1**2)]),
        ("[word]", [("word", 1 / 1.1)]),
        ("[[word]] [(word)]", [("word", 1.1**-2), (" word", 1)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3), (" c", 1.5)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("()[]", []),
        # Escapes.
        (r"\(literal\]", [("(literal]", 1)]),
        (r"(a \(b\):2)", [("a (b)", 2)]),
        (r"a\\b c\d \:", [(r"a\b c\d \:", 1)]),
        ("ends in \\", [("ends in \\", 1)]),
        # What does not match: a closing bracket is text, an opening one reaches the end.
        ("a) b] c:2) d", [("a) b] c:2) d", 1)]),
        ("a (b c", [("a ", 1), ("b c", 1.1)]),
        ("a [b (c", [("a ", 1), ("b ", 1 / 1.1), ("c", 1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
        # A colon without a number is text.
        ("ratio 16:9, (a:b), (c:)", [("ratio 16:9, ", 1), ("a:b", 1.1), (", ", 1), ("c:", 1.1)]),
        ("(a:1.2:1.5)", [("a:1.2", 1.5)]),
        # The web UI's own example.
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [("a ", 1), ("house", 1.3 * 1.1**2), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
             ("sky", 1.1**4), (".", 1.1)],
        ),
    ],
)  # fmt: skip
def test_a_prompt_is_read_as_the_web_ui_reads_it(prompt: str, pieces: list[tuple[str, float]]) -> None:
    parsed = parse_weights(prompt)
    assert [text for text, _ in parsed] == [text for text, _ in pieces]
    assert [weight for _, weight in parsed] == pytest.approx([weight for _, weight in pieces], rel=1e-12)


@pytest.mark.parametrize("number", ["1.2.3", ".", "+.", "1..5"])
def test_a_weight_that_is_no_number_is_named(number: str) -> None:
    with pytest.raises(ValueError, match=f"the weight {number!r} in the prompt is not a number".replace("+", r"\+")):
        parse_weights(f"a (red:{number}) circle")


@pytest.mark.parametrize("prompt", ["a [red:0.8] b", "[a:b:0.5]", "[a::3]", "a [b|c]", "((x [a|b]))", "[a: 10 ]"])
def test_prompt_editing_is_refused_rather_than_read_as_weights(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"would edit it during the run.*a weight is \(word:0.8\)"):
        parse_weights(prompt)
    assert parse_weights(r"\[a:b:0.5] and \[a|b\], [16:9 wide]")


@pytest.mark.parametrize("prompt", ["(" * 20_000 + "a", "(a:" + "9" * 400 + ")"])
def test_weights_past_all_numbers_are_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"the weights of 'a' multiply to inf"):
        parse_weights(prompt)


def test_no_text_is_lost_or_made_up_whatever_the_brackets() -> None:
    draw = random.Random(0)
    parts = ["a", " b", "é", "(", ")", "[", "]", "\\", ":1.5)", ":", ":2", "."]
    for _ in range(3000):
        prompt = "".join(draw.choices(parts, k=9))
        try:
            pieces = parse_weights(prompt)
        except ValueError:
            continue
        assert all(text and math.isfinite(weight) for text, weight in pieces)
        letters = [c for c in "".join(text for text, _ in pieces) if c in "abé"]
        assert letters == [c for c in prompt if c in "abé"]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a\u00a0red\u3000cat", "a red cat"),
        (" a\n\nred\r\n\tcat\x0b\x0c\x85\u2028", "a red cat"),
        ("\u1680a \u2003\u202f\u205fcat", "a cat"),
        ("👩\u200d🚀 ❤\ufe0f 🏴\U000e0067\U000e007f", "👩\u200d🚀 ❤\ufe0f 🏴\U000e0067\U000e007f"),
        ("שלום\u200f \u061cעולם", "שלום\u200f \u061cעולם"),
        ("naïve 猫, ½ “cat”", "naïve 猫, ½ “cat”"),
        ("", ""),
    ],
)
def test_white_space_of_any_kind_is_one_space_and_what_joins_letters_is_kept(prompt: str, text: str) -> None:
    assert clean(prompt) == text
    assert clean(text) == text


@pytest.mark.parametrize("letter", [*map(chr, [*range(9), *range(14, 32), 127, 128, 0x9F, 0xD800, 0xDFFF])])
def test_other_control_characters_are_refused_by_name_and_place(letter: str) -> None:
    with pytest.raises(ValueError, match=rf"^the negative_prompt has .*U\+{ord(letter):04X}, its character 4: remove"):
        clean(f"a\n {letter}b", "negative_prompt")


def test_raw_prompts_have_no_weights_and_all_their_brackets() -> None:
    tokenizer = TOKENIZERS["closed"]
    ids, weights = read_prompts(tokenizer, ["a (red) x:y", r"a (red)"], raw=True)
    assert torch.equal(ids, tokenizer(["a (red) x:y", "a (red)"]))
    assert (weights == 1).all()
    assert read_prompts(TOKENIZERS["byte pairs"], ["a ((red:2) [a:b:0.5"], raw=True)[1].eq(1).all()


@pytest.mark.parametrize("prompt", ["a (purple red", "a (red:1.3) :( left", "[a] b"])
def test_words_outside_a_vocabulary_are_told_with_the_prompt_as_it_was_written(prompt: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message follows
        read_prompts(TOKENIZERS["closed"], [prompt])
    assert str(caught.value).startswith(f"the prompt {prompt!r} has words outside the vocabulary: '")


def test_a_token_that_the_encoder_does_not_know_is_refused_before_it_is_read(encoder: CLIPText) -> None:
    words = [f"w{k}" for k in range(CONFIG.vocab_size)]
    with pytest.raises(ValueError, match="numbers its tokens up to 31, the text encoder knows 30"):
        encode_prompts(Tokenizer.from_words(words, 8), encoder, ["w0"])


def test_every_token_has_the_weight_of_its_piece_and_begin_end_and_padding_have_one(tokenizer: Tokenizer) -> None:
    ids, weights = read_prompts(tokenizer, ["a (red:1.3) left", "a red", ""])
    assert torch.equal(ids[1:], tokenizer(["a red", ""]))
    assert torch.equal(ids[:1], tokenizer(["a red left"]))
    assert weights.tolist()[0][:3] == [1, 1, 1.3]
    assert (weights[0][3:] == 1).all()
    assert (weights[1:] == 1).all()


def test_a_long_prompt_is_cut_where_it_would_be_without_weights(tokenizer: Tokenizer) -> None:
    with pytest.warns(UserWarning, match=r"longer than the 6 tokens.*cut off: 'red a'$") as caught:
        ids, weights = read_prompts(tokenizer, ["a a (a a) a (a red:2) a"])
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="longer"):
        assert torch.equal(ids, tokenizer(["a a a a a a red a"]))
    assert weights.tolist() == [[1, 1, 1, 1.1, 1.1, 1, 2, 1]]


def test_plain_prompts_have_the_encoder_s_features_to_the_bit(tokenizer: Tokenizer, encoder: CLIPText) -> None:
    prompts = ["a red left", "", "left"]
    for clip_skip in (1, 2):
        features = encode_prompts(tokenizer, encoder, prompts, clip_skip)
        assert torch.equal(features, encoder(tokenizer(prompts), clip_skip))
    written = encode_prompts(tokenizer, encoder, ["(a:1) [(red)] (left:1.0)", "()", "((left:0.5):2)"])
    assert torch.equal(written, encoder(tokenizer(prompts)))


def test_weights_multiply_features_and_the_mean_of_each_prompt_is_restored(
    encoder: CLIPText, difference: Callable[..., float]
) -> None:
    tokenizer = TOKENIZERS["byte pairs"]
    plain = encoder(tokenizer(["a red", "left a"]))
    features = encode_prompts(tokenizer, encoder, ["a (red:1.6)", "left a"])
    assert torch.equal(features[1], plain[1])
    factor = features[0, 0] / plain[0, 0]  # of a token of weight 1
    assert difference(factor, factor[:1].expand(8)) < 1e-12
    assert 0.7 < float(factor[0]) < 0.99
    assert difference(features[0, 2], 1.6 * factor * plain[0, 2]) < 1e-12
    assert float(features[0].mean()) == pytest.approx(float(plain[0].mean()), rel=1e-12)
    alone = encode_prompts(tokenizer, encoder, ["a (red:1.6)"])
    assert difference(alone[0], features[0]) < 1e-12  # whatever else is in the batch


def test_a_closed_vocabulary_has_the_weights_alone(encoder: CLIPText) -> None:
    tokenizer = TOKENIZERS["closed"]
    plain, features = encoder(tokenizer(["a red left"])), encode_prompts(tokenizer, encoder, ["a (red:1.3) left"])
    plain[0, 2] *= 1.3
    assert torch.equal(features, plain)


def test_words_that_hold_brackets_are_written_with_a_backslash(encoder: CLIPText) -> None:
    tokenizer = TOKENIZERS["closed"]
    features = encode_prompts(tokenizer, encoder, [r"a \(red\) x:y"])
    assert torch.equal(features, encoder(tokenizer(["a (red) x:y"])))
    with pytest.raises(ValueError, match="outside the vocabulary: 'blue'"):
        encode_prompts(tokenizer, encoder, ["a (blue:1.2) circle"])


def test_half_precision_is_weighted_in_single() -> None:
    features = (2 + torch.randn(77, 64, generator=torch.Generator().manual_seed(0))).half()
    weights = torch.ones(77, dtype=torch.float64)
    weights[5] = 1.7
    weighted = emphasise(features, weights)
    assert weighted.dtype == torch.float16
    exact = emphasise(features.double(), weights)
    assert float((weighted - exact).abs().max() / exact.abs().max()) < 2**-11  # one rounding


def test_weights_that_turn_the_mean_around_are_refused() -> None:
    features = torch.ones(4, 3)
    with pytest.raises(ValueError, match=r"turn its features' mean around \(factor -1\): weaken them"):
        emphasise(features, torch.tensor([1, -5, -1, 1]))
    with pytest.raises(ValueError, match="factor inf"):
        emphasise(features, torch.tensor([1, -3, 1, 1]))


@pytest.mark.parametrize("prompts", ["a red circle", [1], [None]])
def test_anything_but_a_list_of_strings_is_refused(prompts: object, tokenizer: Tokenizer, encoder: CLIPText) -> None:
    with pytest.raises(ValueError, match="expected a list of strings"):
        encode_prompts(tokenizer, encoder, prompts)  # type: ignore[arg-type]


def test_no_prompts_are_no_rows(tokenizer: Tokenizer, encoder: CLIPText) -> None:
    features: Tensor = encode_prompts(tokenizer, encoder, [])
    assert features.shape == (0, 8, 8)


# --- two encoders -----------------------------------------------------------------------------------------------------


def test_pooled_text_is_read_at_the_first_end_of_each_prompt(
    tokenizer: Tokenizer, randomised: Callable[..., CLIPText]
) -> None:
    encoder = randomised(CLIPText(replace(CONFIG, projection_dim=5)))
    prompts = ["a left", "", "a (red:1.5)"]  # weights act on tokens alone
    text = encode(tokenizer, encoder, prompts, norm=True)
    plain = encode(tokenizer, encoder, ["a left", "", "a red"])
    assert text.pooled is not None
    assert plain.pooled is not None
    ids = tokenizer(["a left", "", "a red"]).tolist()
    ends = [row.index(tokenizer.eos) for row in ids]
    assert encoder.text_projection is not None
    expected = encoder.text_projection(plain.states[torch.arange(3), ends])
    torch.testing.assert_close(plain.pooled, expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(text.pooled, plain.pooled)
    assert not torch.equal(text.states[2], plain.states[2])


def test_texts_are_joined_token_by_token_and_an_empty_prompt_is_zeros(
    tokenizer: Tokenizer, encoder: CLIPText, randomised: Callable[..., CLIPText]
) -> None:
    second = randomised(CLIPText(replace(CONFIG, hidden_size=12, projection_dim=5)), seed=1)
    prompts = ["a left", " "]
    one, two = (encode(tokenizer, reader, prompts) for reader in (encoder, second))
    both = joined([one, two])
    assert torch.equal(both.states, torch.cat([one.states, two.states], dim=2))
    assert both.pooled is two.pooled
    assert joined([one]).pooled is None
    told = without_empty(both, prompts)
    assert torch.equal(told.states[0], both.states[0])
    assert not told.states[1].any()
    assert told.pooled is not None
    assert two.pooled is not None
    assert torch.equal(told.pooled[0], two.pooled[0])
    assert not told.pooled[1].any()


def test_of_a_text_all_is_put_together_and_moved_but_the_mask_stays_a_mask() -> None:
    one = Text(torch.ones(1, 3, 2), torch.ones(1, 4), torch.ones(1, 3, dtype=torch.bool))
    both = Text.cat([one, one]).to(dtype=torch.float16)
    assert both.pooled is not None
    assert both.mask is not None
    assert (both.states.shape, both.pooled.shape, both.mask.shape) == ((2, 3, 2), (2, 4), (2, 3))
    assert (both.states.dtype, both.pooled.dtype, both.mask.dtype) == (torch.float16, torch.float16, torch.bool)
    assert Text.cat([Text(one.states)]).mask is None
    assert without_empty(both, ["", "a"]).mask is both.mask
