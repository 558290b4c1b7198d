"""Lines about refusals: how many are written, and that none is lost from the sum."""

import asyncio
import json
import logging

import pytest

from gateway.loglines import KINDS_REMEMBERED, LogLines
from metering.model.clock import FrozenClock


async def test_so_many_a_second_of_each_kind_are_written(caplog: pytest.LogCaptureFixture) -> None:
    clock = FrozenClock(0)
    lines = LogLines(clock.monotonic, a_second=3)
    assert [lines.may("one") for _ in range(5)] == [True] * 3 + [False] * 2
    assert lines.may("two")
    clock.advance(1.0)
    with caplog.at_level(logging.WARNING):
        assert lines.may("one")
    assert [json.loads(record.message) for record in caplog.records] == [{"event": "refused", "reason": "one", "more": 2}]


async def test_what_was_left_out_is_told_though_nothing_follows(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines(FrozenClock(0).monotonic, a_second=1)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            lines.may("one")
        while not caplog.records:
            await asyncio.sleep(0.05)
    assert json.loads(caplog.records[0].message)["more"] == 3


async def test_kinds_without_number_share_one(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines(FrozenClock(0).monotonic, a_second=1)
    written = sum(lines.may(f"kind-{number}") for number in range(10 * KINDS_REMEMBERED))
    assert written == KINDS_REMEMBERED + 1
