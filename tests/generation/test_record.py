"""A record says all that makes a clip again, and a file that is not one is refused by the entry that is wrong."""

import json
from dataclasses import replace

import pytest

from ivmix import TextToVideo
from ivmix.generation.record import Record, read_record

PROMPT = "a red circle moving left"


@pytest.fixture(scope="module")
def record() -> Record:
    model = TextToVideo.from_pair("sprites")
    return model.record([PROMPT, "a blue cross moving up"], seed=[3, 9], negative_prompt=["", PROMPT], sampler="ddim")


def test_a_record_reads_back_as_it_was(record, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record.to_dict()))
    assert read_record(tmp_path / "a.json") == record


def test_that_a_model_was_run_as_a_consistency_model_is_kept(tmp_path):
    pair = TextToVideo.from_pair("sprites").pair
    model = TextToVideo(replace(pair, video=replace(pair.video, consistency=True)))
    record = model.record(PROMPT, sampler="lcm")
    (tmp_path / "a.json").write_text(json.dumps(record.to_dict()))
    assert read_record(tmp_path / "a.json") == record
    assert record.models["video"]["consistency"] is True
    assert "consistency" not in record.models["image"]


def test_a_clip_of_several_has_its_own_record(record):
    second = record.of(slice(1, 2))
    assert (second.prompts, second.seeds, second.negative_prompts) == (["a blue cross moving up"], [9], [PROMPT])
    assert second.sampling == record.sampling


def test_what_a_clip_cost_does_not_make_it_another(record):
    from dataclasses import replace

    assert record.asks_as(replace(record, nfe={"video": 9}, seconds=3.0))
    assert not record.asks_as(replace(record, seeds=[3, 8]))
    there = [replace(record, device=name) for name in ("cuda:0", "cuda:1", "cpu")]  # as torchrun's processes have them
    assert [there[0].asks_as(other) for other in there] == [True, True, False]


CHANGES = [
    ({"prompts": "a red circle"}, "prompts is 'a red circle', expected a list, each text"),
    ({"prompts": [5, 6]}, r"prompts\[0\] is 5, expected text"),
    ({"prompts": []}, "prompts is empty"),
    ({"seeds": ["1", 2]}, r"seeds\[0\] is '1', expected a whole number"),
    ({"seeds": [1]}, "seeds has 1 entries for 2 prompts"),
    ({"negative_prompts": [""]}, "negative_prompts has 1 entries"),
    ({"frames": "8"}, "frames is '8', expected a whole number"),
    ({"frames": True}, "frames is True, expected a whole number"),
    ({"height": None}, "height is None, expected a whole number"),
    ({"pair": 5}, "pair is 5, expected text"),
    ({"swaps": []}, r"swaps is \[\], expected an object"),
    ({"sampling": ["ddim"]}, r"sampling is \['ddim'\], expected an object"),
    ({"strength": "0.3"}, "strength is '0.3', expected a number or null"),
    ({"video": "clip.mp4"}, "video is 'clip.mp4', expected an object or null"),
    ({"video": {"path": "x"}}, "video is .*, expected an object or null"),
    ({"nfe": {"video": "5"}}, "nfe: video is '5', expected a whole number"),
    ({"negative_prompt": ""}, "unknown entry 'negative_prompt'; did you mean 'negative_prompts'"),
    ({"colour": "red"}, "unknown entry 'colour'; expected ivmix, torch, pair"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[str(change) for change, _ in CHANGES])
def test_a_record_changed_by_hand_is_refused_by_its_entry(record, tmp_path, change, message):
    (tmp_path / "a.json").write_text(json.dumps(record.to_dict() | change))
    with pytest.raises(ValueError, match=f"a.json is not a record of `ivmix sample`.*{message}"):
        read_record(tmp_path / "a.json")


def test_every_entry_but_the_last_is_needed(record, tmp_path):
    whole = record.to_dict()
    for name in whole.keys() - {"cancelled"}:
        (tmp_path / "a.json").write_text(json.dumps({n: v for n, v in whole.items() if n != name}))
        with pytest.raises(ValueError, match=f"`ivmix sample`: it lacks the entry '{name}'"):
            read_record(tmp_path / "a.json")
