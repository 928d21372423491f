"""Every clip runs once, at the place that its record says."""

import pytest

from ivmix.generation.batches import among_copies, in_order


@pytest.mark.parametrize(("count", "size"), [(1, 1), (5, 1), (5, 2), (6, 3), (5, 8)])
def test_clips_run_in_order_each_once_and_all_places_are_kept(count, size):
    batches = in_order(count, size)
    assert [clip for batch in batches for clip in batch.clips] == list(range(count))
    assert all(len(batch.clips) == size for batch in batches[:-1])
    assert 1 <= len(batches[-1].clips) <= size
    assert all(list(batch.places) == list(range(len(batch.clips))) for batch in batches)


def test_of_copies_of_a_clip_the_one_at_its_place_is_kept():
    (batch,) = among_copies(4, 2)
    assert (list(batch.clips), list(batch.places)) == ([0, 0, 0, 0], [2])
    assert "abcd"[batch.kept] == "c"
