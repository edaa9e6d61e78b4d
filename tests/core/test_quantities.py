import pytest

from personarank_dagster.core.quantities import in_units, interval, megabytes, percent, told, with_units


def test_shares_and_intervals_are_in_percent() -> None:
    assert (percent(0.883721), percent(0.883721, signed=True)) == ("88.4 %", "+88.4 %")
    assert (percent(0.000212), percent(-0.0004, signed=True), percent(0.0)) == ("0.021 %", "-0.04 %", "0.0 %")
    assert interval(0.0174, -0.28) == "[+1.7, -28.0]"


@pytest.mark.parametrize(
    ("size", "told"), [(92_816_236, "92.8 MB"), (0, "0.0 MB"), (1_000, "< 0.1 MB"), (2_500_000_000, "2,500.0 MB")]
)
def test_bytes_are_in_megabytes_and_small_files_are_not_nothing(size: int, told: str) -> None:
    assert megabytes(size) == told


def test_numbers_of_checks_have_the_units_of_their_names() -> None:
    words = [in_units(*one) for one in (("same_share", 0.0123), ("rows", 1309), ("mean", 4.09876), ("note", "none"))]
    assert words == ["1.2 %", "1,309", "4.099", "none"]


def test_numbers_that_are_plotted_are_those_of_the_terminal_and_named_with_their_unit() -> None:
    shown = with_units(
        {"lift NDCG@10": 0.883721, "same_share": 0.0123, "bytes": 92_816_236, "peak_memory_bytes": 10**8}
    )
    assert shown == {"lift NDCG@10 (%)": 88.4, "same_share (%)": 1.2, "size (MB)": 92.8, "peak_memory (MB)": 100.0}
    assert with_units({"reranked NDCG@10": 0.123456789, "rows": 1309, "note": "none"}) == {
        "reranked NDCG@10": 0.123457,
        "rows": 1309,
        "note": "none",
    }
    assert [told(*one) for one in {**shown, "rows": 1309}.items()][1::3] == ["same_share 1.2 %", "rows 1,309"]
