"""The order of the recipe."""

from ivmix.sprites.training.recipe import STAGES


def test_a_stage_needs_stages_before_it():
    done = set[str]()
    for stage in STAGES:
        assert set(stage.needs) <= done
        done.add(stage.name)
