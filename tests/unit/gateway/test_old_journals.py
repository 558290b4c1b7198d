"""A journal that ends so long ago that nobody remembers what Postgres has of it is not taken unasked."""

from pathlib import Path

import pytest

from gateway.adoption import Adopter
from gateway.recorder import Recorder
from gateway.tally import Template
from metering.model.clock import FrozenClock
from metering.model.ledger import JOURNALS_TAKEN_DAYS, MARKS_KEPT_DAYS
from weighbridge.handed_in import JournalForgotten, _check_age

W = "w0-aa"
NOW_MS = 1_740_000_000_000
DAY_MS = 86_400_000


def journal(folder: Path, days_ago: int) -> None:
    recorder = Recorder(folder, W, FrozenClock(NOW_MS - days_ago * DAY_MS).now_ms)
    template = Template(1, "org", 7, 9, 5, "GET", 0, (("api", 1),), {})
    for status in (200, 200, 503):
        xid = recorder.granted(template, 1, 1, 1)
        recorder.paid(xid, template, (), status, 1, 0, 0)
    recorder.close()


def adopter(folder: Path, *, takes_old: bool = False) -> Adopter:
    return Adopter("redis://127.0.0.1:1", folder, FrozenClock(NOW_MS), "supervisor", takes_old=takes_old)


def test_marks_are_kept_for_longer_than_journals_are_taken() -> None:
    assert MARKS_KEPT_DAYS - JOURNALS_TAKEN_DAYS >= 7


@pytest.mark.parametrize(("days_ago", "takes_old", "taken"), [(0, False, [W]), (89, False, [W]), (90, False, []), (90, True, [W])])
async def test_a_supervisor_takes_what_is_young_and_leaves_what_is_old_where_it_lies(
    tmp_path: Path, days_ago: int, takes_old: bool, taken: list[str]
) -> None:
    journal(tmp_path, days_ago)
    supervisor = adopter(tmp_path, takes_old=takes_old)
    for _ in range(2):
        supervisor._scan()
        assert supervisor.waiting == taken
    Recorder(tmp_path, "w0-bb", FrozenClock(NOW_MS).now_ms).close()  # one without a call is not old, however old it is
    supervisor._scan()
    assert supervisor.waiting == [*taken, "w0-bb"]
    for adopted in supervisor._adopted.values():
        adopted.recorder.close()


def test_one_that_is_handed_in_is_refused_where_postgres_knows_nothing_of_it(tmp_path: Path) -> None:
    journal(tmp_path, 91)
    minute = NOW_MS // 60_000
    with pytest.raises(JournalForgotten, match="ends 91 days ago"):
        _check_age(tmp_path, W, minute)
    _check_age(tmp_path, W, minute - 2 * 1_440)
