"""The embedded pair, loaded once."""

import pytest

from ivmix import TextToVideo


@pytest.fixture(scope="session")
def model() -> TextToVideo:
    return TextToVideo.from_pair("sprites")
