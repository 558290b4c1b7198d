"""Files of usage in and out: each row once, whatever is sent twice or broken off; and what is given out can be taken in again."""

import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest

from billing.operations import exports, imports
from billing.operations.exports import ExportAsk, FileFormat
from billing.operations.imports import ImportAsk
from billing.services import importing

from .conftest import Desk, dispatch_of
from .test_events import EVERYBODY, acme, agree, counters  # noqa: F401  a fixture

HEADER = "timestamp,service,quantity,metadata\n"


def rows(count: int, start: int = 0) -> str:
    return "".join(f'2041-01-{1 + n % 31:02d}T10:00:{n % 60:02d}Z,api,{n},{{"n":{n}}}\n' for n in range(start, start + count))


async def pieces(text: str, size: int = 1_000) -> AsyncIterator[bytes]:
    data = text.encode()
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def take(desk: Desk, text: str, *, org: str | None = "acme", **ask: Any) -> tuple[dict[str, int], list[dict[str, Any]]]:
    operation = imports.import_usage if org else imports.import_all
    answer = await dispatch_of(desk).perform(operation, ImportAsk(**ask), caller=EVERYBODY, org=org, body=pieces(text))
    lines = [json.loads(line) for line in b"".join([piece async for piece in answer.pieces]).splitlines()]
    return lines[-1]["done"], [line["rejected"] for line in lines if "rejected" in line]


async def given(desk: Desk, *, org: str | None = "acme", **ask: Any) -> str:
    operation = exports.export_usage if org else exports.export_all
    answer = await dispatch_of(desk).perform(operation, ExportAsk(**ask), caller=EVERYBODY, org=org)
    return b"".join([piece async for piece in answer.pieces]).decode()


async def used(desk: Desk) -> int:
    return int(await desk.pool.fetchval("SELECT coalesce(sum(quantity), 0) FROM billing.usage_events"))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PIECE", 40)


async def test_good_rows_are_in_once_and_bad_ones_are_named(acme: Desk) -> None:  # noqa: F811
    acme.clock.advance(86_400)
    bad = "2041-01-05T10:00:00Z,gold,1,\nnever,api,1,\n\n2041-01-05T10:00:00Z,api,1.5,\n2042-01-05T10:00:00Z,api,1,\n"
    text = HEADER + rows(60) + bad + rows(40, 60)
    done, rejects = await take(acme, text, dry_run=True)
    assert (done["accepted"], done["rejected"], await used(acme)) == (100, 5, 0)
    done, rejects = await take(acme, text)
    assert (done["lines"], done["accepted"], done["skipped"], done["rejected"]) == (105, 100, 0, 5)
    assert [each["line"] for each in rejects] == [62, 63, 64, 65, 66]
    assert "no service 'gold'" in rejects[0]["reason"]
    assert rejects[0]["text"] == "2041-01-05T10:00:00Z,gold,1,"
    assert await used(acme) == sum(range(100))
    await agree(acme)
    for again, new in ((text, 0), (text + rows(30, 100), 30), (text + rows(90, 100), 60)):
        done, _ = await take(acme, again)
        assert (done["accepted"], done["accepted"] + done["skipped"] + done["rejected"]) == (new, done["lines"])
    assert await used(acme) == sum(range(190))
    await agree(acme)
    assert await acme.pool.fetchval("SELECT sum(cumulative) FROM billing.usage_period") == sum(range(190))
    assert await acme.pool.fetchval("SELECT sum(quantity) FROM billing.usage_hourly") == sum(range(190))


async def test_an_import_that_breaks_off_goes_on_where_it_was(acme: Desk) -> None:  # noqa: F811
    acme.clock.advance(86_400)
    text = HEADER + rows(200)

    async def broken() -> AsyncIterator[bytes]:
        async for piece in pieces(text[: len(text) // 2]):
            yield piece
        raise ConnectionError

    with pytest.raises(ConnectionError):
        async for _ in acme.billing.importing.run(str(await acme.pool.fetchval("SELECT id FROM billing.organizations")), broken()):
            pass
    assert 0 < await used(acme) < sum(range(200))
    done, _ = await take(acme, text)
    assert done["accepted"] + done["skipped"] == 200
    assert await used(acme) == sum(range(200))
    await agree(acme)


async def test_rows_with_keys_are_once_in_whatever_file_they_come(acme: Desk) -> None:  # noqa: F811
    header = "timestamp,service,quantity,idempotency_key\n"
    first = [f"2041-01-05T10:00:00Z,api,{n},key-{n}\n" for n in range(1, 51)]
    assert (await take(acme, header + "".join(first)))[0]["accepted"] == 50
    mixed = [*reversed(first), "2041-01-05T10:00:00Z,api,7,new\n", "2041-01-05T10:00:00Z,api,99,key-1\n"]
    done, rejects = await take(acme, header + "".join(mixed))
    assert (done["accepted"], done["skipped"], done["rejected"]) == (1, 50, 1)
    assert "another event" in rejects[0]["reason"]
    assert await used(acme) == sum(range(1, 51)) + 7
    await agree(acme)


async def test_rows_of_another_organization_are_taken_only_where_all_may_be(acme: Desk) -> None:  # noqa: F811
    bolt = (await acme.billing.orgs.create("Bolt", plan="free")).org
    text = "timestamp,service,quantity,org_id\n" + "".join(
        f"2041-01-05T10:00:00Z,api,1,{org}\n" for org in ("acme", bolt.id, "", "nobody", "bolt")
    )
    done, rejects = await take(acme, text)
    assert (done["accepted"], [each["line"] for each in rejects]) == (2, [3, 5, 6])
    done, rejects = await take(acme, text, org=None)
    assert (done["accepted"], [each["line"] for each in rejects]) == (3, [4, 5])
    by_org = await acme.pool.fetch("SELECT org_id, sum(quantity)::int AS n FROM billing.usage_events GROUP BY 1")
    assert sorted(row["n"] for row in by_org) == [2, 3]


@pytest.mark.parametrize("form", [FileFormat.CSV, FileFormat.JSONL])
async def test_what_is_given_out_can_be_taken_in_again(acme: Desk, form: FileFormat) -> None:  # noqa: F811
    acme.clock.advance(86_400)
    await take(acme, HEADER + rows(70) + '2041-01-05T10:00:00.250Z,bandwidth,0.5,{"say":"=1+1, \\"x\\""}\n')
    text = await given(acme, format=form)
    await acme.pool.execute("TRUNCATE billing.usage_events, billing.usage_hourly, billing.usage_period, billing.import_pieces")
    done, rejects = await take(acme, text)
    assert (done["accepted"], rejects) == (71, [])
    assert await given(acme, format=form) == text
    assert await given(acme, org=None, format=form) == text


async def test_the_columns_are_the_guides_and_the_range_is_by_days(acme: Desk) -> None:  # noqa: F811
    acme.clock.advance(86_400)
    org = await acme.pool.fetchval("SELECT id FROM billing.organizations")
    await take(acme, HEADER + rows(31) + "2041-01-05T23:59:59Z,bandwidth,12.3,\n")
    text = await given(acme, service="api", start=date(2041, 1, 5), end=date(2041, 1, 6))
    assert text.splitlines() == [
        "timestamp,service,quantity,org_id,metadata",
        f'2041-01-05T10:00:04Z,api,4,{org},"{{""n"": 4}}"'.replace('""n"": 4', '""n"":4'),
        f'2041-01-06T10:00:05Z,api,5,{org},"{{""n"":5}}"',
    ]
    found = json.loads(await given(acme, format=FileFormat.JSON, service="bandwidth"))
    assert found == [
        {"timestamp": "2041-01-05T23:59:59Z", "service": "bandwidth", "quantity": "12.3", "org_id": str(org), "metadata": None}
    ]
    assert json.loads(await given(acme, format=FileFormat.JSON, service="api", start=date(2041, 3, 1))) == []
