"""The embedded pair, loaded once."""

import pytest

from ivmix import TextToVideo
from ivmix.evaluation.jobs import Maker
from ivmix.sprites.measure import load_judge


@pytest.fixture(scope="package")
def maker() -> Maker:
    model = TextToVideo.from_pair("sprites")
    judge = load_judge(model.pair)
    assert judge is not None
    return Maker.of(model, judge)
