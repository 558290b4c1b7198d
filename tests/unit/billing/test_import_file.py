"""Rows of usage as files write them: the guide's CSV, RFC 4180, JSON Lines; and what will not do."""

import pytest

from billing.model.event import BadEvent
from billing.model.import_file import NoHeader, read_json, reader_of

GUIDE = "timestamp,service,quantity,metadata"
FULL = "timestamp,service,quantity,org_id,metadata"
AT = "2026-01-29T10:00:00Z"
AT_MS = 1_769_680_800_000


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        (GUIDE, f'{AT},api,1000,{{"endpoint":"/api/test"}}', ("api", "1000", '{"endpoint":"/api/test"}', "", "")),
        (GUIDE, f'{AT},api,1000,{{"a":"x,y","b":[1,2]}}', ("api", "1000", '{"a":"x,y","b":[1,2]}', "", "")),
        (GUIDE, f'{AT},api,1000,"{{""endpoint"":""/x""}}"', ("api", "1000", '{"endpoint":"/x"}', "", "")),
        (GUIDE, f'{AT},"api",1000,"{{""a"":""x,y""}}"', ("api", "1000", '{"a":"x,y"}', "", "")),
        (GUIDE, f'{AT},api,1, {{"a":"x,y"}}', ("api", "1", '{"a":"x,y"}', "", "")),
        (GUIDE, f"{AT},storage,5.5,", ("storage", "5.5", None, "", "")),
        (FULL, f'{AT},api,125,acme,"{{""a"":1}}"', ("api", "125", '{"a":1}', "acme", "")),
        ("Service, quantity ,timestamp", f"api,1,{AT}", ("api", "1", None, "", "")),
        ("idempotency_key,timestamp,service,quantity", f'"a,1",{AT},api,1', ("api", "1", None, "", "a,1")),
        ("\ufeff" + GUIDE, f"{AT},api,1,{{}}", ("api", "1", "{}", "", "")),
        ("{}", f'{{"timestamp":"{AT}","service":"api","quantity":1.50,"metadata":{{"n":1.5}}}}', ("api", "1.50", '{"n":1.5}', "", "")),
        ("{}", f'{{"timestamp":"{AT}","service":"api","quantity":"2","org_id":"x","metadata":null}}', ("api", "2", None, "x", "")),
    ],
)
def test_a_row_is_read(header: str, line: str, said: tuple[str, str, str | None, str, str]) -> None:
    reader, is_header = reader_of(header)
    assert is_header == (header != "{}")
    found = reader(line)
    assert (found.at_ms, *found[1:]) == (AT_MS, *said)


@pytest.mark.parametrize(
    ("header", "line", "words"),
    [
        (GUIDE, "yesterday,api,1,", "no instant"),
        (GUIDE, "2026-01-29T10:00:00,api,1,", "does not say its zone"),
        (GUIDE, f"{AT},api,1", "3 cells where the header names 4"),
        (GUIDE, f"{AT},api,1,2,3", "5 cells"),
        (GUIDE, f"{AT},api,1,{{nothing", "not JSON"),
        (GUIDE, f'{AT},api,1,"[1]"', "not a JSON object"),
        (GUIDE, f'{AT},api,1,{{"a":NaN}}', "not JSON"),
        (GUIDE, f'{AT},api,1,{{"a":"\\u0000"}}', "no text"),
        (GUIDE, f'{AT},api,1,{{"a":1e999999}}', "no number"),
        (GUIDE, f'{AT},api,1,"open', "not CSV"),
        ("{}", "[1]", "no header"),
        ("{}", '{"timestamp": "5"}', "no instant"),
        ("{}", '{"when": 5}', "'when'"),
        ("{}", "{", "not JSON"),
    ],
)
def test_a_row_that_will_not_do_says_why(header: str, line: str, words: str) -> None:
    with pytest.raises(BadEvent, match=words):
        reader_of(header if line != "[1]" else line)[0](line)


@pytest.mark.parametrize("header", ["", "hello", "timestamp,service", f"{GUIDE},colour", "timestamp,timestamp,service,quantity"])
def test_a_file_without_a_header_is_no_csv_of_usage(header: str) -> None:
    with pytest.raises(NoHeader):
        reader_of(header)


@pytest.mark.parametrize("metadata", ['{"a": NaN}', '{"a": 1e999999' + "}", '{"a": ' + "9" * 5000 + "}", "[" * 100_000])
def test_a_row_of_json_that_nothing_can_hold_is_a_bad_row_and_nothing_worse(metadata: str) -> None:
    with pytest.raises(BadEvent):
        read_json(f'{{"timestamp": "2026-01-29T10:00:00Z", "service": "api", "quantity": 1, "metadata": {metadata}}}')


def test_a_header_that_is_no_csv_is_no_header() -> None:
    with pytest.raises(NoHeader):
        reader_of("timestamp,service\rquantity")
