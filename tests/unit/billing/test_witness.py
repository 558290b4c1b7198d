"""A log of somebody else, held against the ledger minute by minute."""

from collections import Counter

import pytest

from billing.model.witness import Account, Gap, Seen, Stream, gaps, read_line, told_by

NGINX = (
    '{"at":"2026-11-23T18:03:36+00:00","client":"203.0.113.9","method":"GET","scheme":"http","host":"api.example.com",'
    '"path":"/v1/x","protocol":"HTTP/1.1","status":"200","in":"120","body_out":"5","seconds":"1.500","gateway":"127.0.0.1:8080",'
    '"gateway_status":"200","gateway_seconds":"1.499","request":"req-1","completed":"OK"}'
)
AT_MS = 1_795_457_016_000  # 2026-11-23T18:03:36Z
STREAM = Stream(7, "GET")


def test_a_line_of_nginx_says_when_the_call_began() -> None:
    expected = Seen(began_ms=AT_MS - 1500, method="GET", path="/v1/x", status=200, host="api.example.com", request="req-1")
    assert read_line(NGINX) == expected


@pytest.mark.parametrize(
    "line",
    [
        '{"at": "2026-11-23T18:03:36Z", "method": "GET", "path": "/v1/x", "status": 200}',
        f'{{"at": {AT_MS / 1000}, "method": "GET", "path": "/v1/x", "status": 200}}',
        '203.0.113.9 - - [23/Nov/2026:18:03:36 +0000] "GET /v1/x HTTP/1.1" 200 512 "-" "curl/8"',
        '203.0.113.9 - - [23/Nov/2026:19:03:36 +0100] "GET /v1/x HTTP/1.1" 200 512',
    ],
)
def test_other_logs_are_read_too(line: str) -> None:
    assert read_line(line) == Seen(began_ms=AT_MS, method="GET", path="/v1/x", status=200)


def test_an_empty_line_is_no_call() -> None:
    assert read_line("\n") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"method": "GET", "path": "/"}', "does not say at, status"),
        ("GET /v1/x 200", "neither a JSON object nor"),
        ("{", "Expecting"),
        ('{"at": "yesterday", "method": "GET", "path": "/", "status": 200}', "Invalid isoformat"),
        ('{"at": "2026-11-23T18:03:36", "method": "GET", "path": "/", "status": 200}', "needs a time zone"),
    ],
)
def test_what_a_line_lacks_is_said(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_line(line)


def seen(minute: int, status: int = 200, *, method: str = "GET", request: str = "") -> tuple[Stream, Seen]:
    return STREAM, Seen(began_ms=minute * 60_000, method=method, path="/", status=status, request=request)


def found(calls: list[tuple[Stream, Seen]], ledger: dict[int, int], first: int = 0, last: int = 9) -> list[tuple[int, int, int]]:
    return [(gap.calls, gap.from_minute, gap.until_minute) for gap in gaps(told_by(calls), {STREAM: ledger}, first, last)]


@pytest.mark.parametrize(
    ("calls", "ledger", "expected"),
    [
        ([seen(3), seen(3), seen(4)], {3: 2, 4: 1}, []),
        ([seen(3), seen(3), seen(4)], {3: 1, 4: 1}, [(1, 3, 3)]),
        ([seen(3)], {3: 1, 5: 2}, [(-2, 5, 5)]),
        ([seen(3), seen(3)], {3: 1, 4: 1}, []),  # two clocks, one call at the turn of a minute
        ([seen(3), seen(3)], {2: 1, 3: 1}, []),
        ([seen(3), seen(3, 429)], {3: 1}, []),  # refused by the gateway, or
        ([seen(3), seen(3, 429)], {3: 2}, []),  # by the service behind it
        ([seen(3), seen(3, 429)], {3: 3}, [(-1, 3, 3)]),
        ([seen(3), seen(3, 204, method="OPTIONS")], {3: 1}, []),
        ([seen(3), seen(7)], {}, [(1, 3, 3), (1, 7, 7)]),
        ([seen(0), seen(9)], {0: 5, 9: 5}, []),  # the log began and ended within these minutes
        ([seen(0), seen(0)], {0: 1}, [(1, 0, 0)]),
    ],
)
def test_calls_that_one_side_lacks_are_found_by_minute(
    calls: list[tuple[Stream, Seen]], ledger: dict[int, int], expected: list[tuple[int, int, int]]
) -> None:
    assert found(calls, ledger) == expected


def test_a_few_missing_calls_are_named_by_their_requests() -> None:
    calls = [seen(3, request="a"), seen(3, request="b")]
    (gap,) = gaps(told_by(calls), {STREAM: {3: 1}}, 0, 9)
    said = "GET /v1/*, 1970-01-01T00:03:00Z: the witness saw 1 call that the ledger lacks; among the requests a, b"
    assert gap.sentence("/v1/*") == said


def test_many_calls_are_not_named() -> None:
    (gap,) = gaps(told_by([seen(3, request=f"r{n}") for n in range(9)]), {}, 0, 9)
    assert (gap.calls, gap.requests) == (9, ())
    assert "1970-01-01T00:03:00Z to 1970-01-01T00:04:00Z" in Gap(stream=STREAM, calls=-3, from_minute=3, until_minute=4).sentence("/")


def test_what_the_witness_cannot_tell_apart_is_kept_apart_from_what_it_can() -> None:
    account = told_by([seen(3), seen(3, 503), seen(3, 404)])[STREAM]
    assert account == Account(surely=Counter({3: 1}), perhaps=Counter({3: 2}))
