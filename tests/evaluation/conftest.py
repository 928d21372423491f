"""The embedded pair, loaded once."""

import pytest

from ivmix import TextToVideo
from ivmix.evaluation.jobs import Maker
from ivmix.sprites.benchmark import sprites


@pytest.fixture(scope="package")
def maker() -> Maker:
    model = TextToVideo.from_pair("sprites")
    return Maker.of(model, sprites(model.pair))
