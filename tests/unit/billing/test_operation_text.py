"""What was said, before a model reads it: text that PostgreSQL cannot hold is named, wherever it stands."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from billing.operations.dispatch import asked
from billing.operations.instants import given_ms
from billing.operations.orgs import create
from billing.operations.text import unstorable_field
from metering.model.clock import to_datetime
from metering.model.errors import BadInput

SAID: list[tuple[Any, str | None]] = [
    ({"name": "Acme"}, None), ({"name": "a\0"}, "name"), ({"name": "\ud800"}, "name"), ({"a": {"b": ["x", "\0"]}}, "a.b.1"),
    ({"a\0": 1}, "(all)"), ({"a": [1, None, True, 1.5]}, None), ({"a": "Ärger 🙂"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("said", "where"), SAID)
def test_the_first_text_that_cannot_be_kept_is_named(said: Any, where: str | None) -> None:
    assert unstorable_field(said) == where


def test_a_door_refuses_it_and_does_not_repeat_it() -> None:
    with pytest.raises(BadInput, match=r"^name: text has neither NUL nor lone surrogates$"):
        asked(create, {"name": "a\0"})


EDGES = [
    (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23))), 1970), (datetime(9999, 12, 31, tzinfo=timezone(-timedelta(hours=23))), 9999),
    (datetime(2026, 1, 31, tzinfo=UTC), 2026),
]  # fmt: skip


@pytest.mark.parametrize(("at", "year"), EDGES)
def test_an_instant_that_was_said_stays_inside_the_calendar(at: datetime, year: int) -> None:
    assert to_datetime(given_ms(at)).year == year
