"""Every instant comes back from every accepted form to the microsecond, or is refused."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.raw.rows import RowError
from personarank_dagster.raw.times import microseconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=ZONES)


def since_1970(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@given(INSTANTS)
def test_iso_text_of_any_instant_gives_its_microseconds(moment: datetime) -> None:
    utc = moment.astimezone(UTC)
    naive = utc.replace(tzinfo=None)
    forms = [moment.isoformat(), moment.isoformat(" "), naive.isoformat(), utc.isoformat().replace("+00:00", "Z")]
    assert [microseconds(form) for form in forms] == [since_1970(moment)] * 4


@given(INSTANTS)
def test_epoch_numbers_and_their_texts_give_the_microseconds_of_any_instant(moment: datetime) -> None:
    exact = since_1970(moment)
    numbers: list[Any] = [exact / 1_000_000, exact / 1_000, f"{exact // 1_000_000}.{exact % 1_000_000:06}"]
    assert [microseconds(number) for number in numbers] == [exact] * 3
    whole = exact // 1_000_000
    forms: list[Any] = [whole, str(whole), whole * 1_000, str(whole * 1_000), f"{whole}.0"]
    assert [microseconds(form) for form in forms] == [whole * 1_000_000] * 5


@given(INSTANTS)
def test_compact_text_is_iso_with_a_t_or_refused(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    assert microseconds(whole.strftime("%Y%m%dT%H%M%S%z")) == since_1970(whole)
    for form in ("%Y%m%d%H%M%SZ", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d"):
        with pytest.raises(RowError):
            microseconds(whole.strftime(form))
    for form in ("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d"):
        with pytest.raises(RowError):
            microseconds(int(whole.strftime(form)))


@given(st.dates(datetime(1990, 1, 1).date(), datetime(2100, 1, 1).date()))
def test_review_times_of_amazon_are_days(day: Any) -> None:
    expected = since_1970(datetime(day.year, day.month, day.day, tzinfo=UTC))
    assert microseconds(day.strftime("%m %d, %Y")) == expected
    assert microseconds(f"{day.month} {day.day}, {day.year}") == expected


@given(st.text(alphabet="0123456789-:TZ .,+/", max_size=30))
def test_no_text_is_guessed_at(text: str) -> None:
    try:
        found = EPOCH + timedelta(microseconds=microseconds(text))
    except (RowError, OverflowError):
        return
    if text[4:5] == "-" == text[7:8]:
        assert abs(found.year - int(text[:4])) <= 1


@pytest.mark.parametrize("text", ["20230808120000Z", "2023/08/08", "08/08/2023", "2023-W32-2", "13 01, 2009", "1e9"])
def test_other_texts_are_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(RowError, match=r"expected epoch seconds or milliseconds, or ISO text such as .*, got '"):
        microseconds(text)


def test_a_date_that_is_written_as_a_number_is_called_one() -> None:
    with pytest.raises(RowError, match="got 20230808, a date; write it YYYY-MM-DD"):
        microseconds(20230808)
    with pytest.raises(RowError, match="expected a time before the year 2500, got 20230808120000"):
        microseconds("20230808120000")
