"""Published numbers: all of the paper's tables, each with its doubt, and what the paper says of them in words."""

import pytest

from ivmix.evaluation.paper import Row, metrics, tables
from ivmix.evaluation.protocols import PROTOCOLS


def row(benchmark: str, model: str, method: str, table: int = 0) -> Row:
    (found,) = (r for r in tables(benchmark)[table].rows if (r.model, r.method) == (model, method))
    return found


def test_every_table_is_there_with_its_rows_and_columns():
    shapes = {(t.source, t.name, t.benchmark): (len(t.rows), len(t.rows[0].numbers)) for t in tables()}
    assert shapes == {
        ("paper", "Table 1", "chronomagic-150"): (9, 3), ("paper", "Table 2", "chronomagic-1649"): (8, 3),
        ("paper", "Table 3", "ucf101"): (7, 2), ("paper", "Table 4", "msrvtt"): (6, 2),
        ("ChronoMagic-Bench", "Leaderboard", "chronomagic-150"): (24, 5),
        ("ChronoMagic-Bench", "Leaderboard", "chronomagic-1649"): (14, 5),
    }  # fmt: skip


def test_every_number_has_a_doubt_and_every_number_of_the_paper_what_is_printed_after_it():
    for table in tables():
        assert len({(r.model, r.method) for r in table.rows}) == len(table.rows)
        for one in table.rows:
            for name, number in one.numbers.items():
                assert number.doubts
                assert number.value > 0
                assert (number.printed is not None) == (table.source == "paper"), (one, name)


def test_the_papers_claims_hold_in_its_tables():
    """IV-mixed is below its own model's sampler in every distance and above it in every score of every table."""
    compared = 0
    for table in tables():
        for one in table.rows:
            if one.method == "IV-mixed":
                base = next(r for r in table.rows if r.model == one.model and r.method in ("DDIM", "DPM-Solver++"))
                for name, number in one.numbers.items():
                    sign = 1 if metrics()[name].better == "lower" else -1
                    assert sign * (base.numbers[name].value - number.value) > 0
                    compared += 1
    assert compared == 9 + 9 + 4 + 4


def test_the_exceptions_that_were_noted_are_there():
    for model, better in (("AnimateDiff", "I4VGen"), ("ModelScope", "FreeInit")):
        ours, others = (row("chronomagic-150", model, method).numbers["umt_fvd"] for method in ("IV-mixed", better))
        assert others.value < ours.value
    theirs = row("chronomagic-150", "VideoCrafter2", "", 1).numbers["umt_fvd"].value
    assert row("chronomagic-150", "VideoCrafterV2", "DPM-Solver++").numbers["umt_fvd"].value == theirs
    assert "36 less" in row("chronomagic-150", "AnimateDiff", "DDIM").numbers["umt_fvd"].doubts[0]


def test_distances_name_a_protocol_that_computes_them():
    named = {name: metric.protocol for name, metric in metrics().items() if "fvd" in name}
    assert len(named) == 3
    assert set(named.values()) <= set(PROTOCOLS)


def test_a_benchmark_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="benchmark 'ucf': expected one of chronomagic-150, chronomagic"):
        tables("ucf")
