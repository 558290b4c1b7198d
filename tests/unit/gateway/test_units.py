"""What an answer says: from its head, its trailers, its body, its events; whatever its chunks, and whatever is wrong with it."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.gateway import Settled, Source
from gateway.reply import ResponseHead
from gateway.units import Reading, Wanted, units_of

JSON = Settled(sources=(Source("json", "/usage/total_tokens"),), reserve=2_000)
SSE = Settled(sources=(Source("sse", "/usage/total_tokens"),), reserve=2_000)
REASONS = {
    "encoded", "too_large", "not_json", "not_events", "missing", "not_a_number", "negative", "not_whole", "too_many", "broken_off",
}  # fmt: skip
EVENT_STREAM = (b"Content-Type", b"text/event-stream; charset=utf-8")


class Answer:
    """A service's answer on its way through: what a connection shows of it after each read."""

    def __init__(self, cost: Settled, *fields: tuple[bytes, bytes], status: int = 200, switched: bytes = b"") -> None:
        self.head: ResponseHead | None = ResponseHead(status, b"OK", list(fields), keep_alive=True)
        self.pieces: list[bytes] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.complete, self.switched = False, switched
        self.cost, self.reading = cost, Reading(Wanted([cost]))

    def says(self, *pieces: bytes, ends: bool = True) -> "Answer":
        for i, piece in enumerate(pieces):
            self.complete = ends and i == len(pieces) - 1
            self.pieces = [piece] if piece else []
            self.reading.read(self)  # type: ignore[arg-type] # as much of a connection as is looked at
        return self

    @property
    def units(self) -> int | str:
        return self.reading.units(self.cost)


def body(value: Any) -> bytes:
    return json.dumps({"id": "x", "usage": {"prompt_tokens": 3, "total_tokens": value}}).encode()


# --- numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "units"),
    [
        (0, 0), (7, 7), (12.0, 12), (1e3, 1_000), ("7", 7), (" 7 ", 7), (b"7", 7), ("007", 7), (10**12, 10**12), ("1000000000000", 10**12),
        (-1, "negative"), (-0.5, "negative"), (12.5, "not_whole"), (10**12 + 1, "too_many"), (2**63, "too_many"), (1.8e19, "too_many"),
        ("9999999999999999", "too_many"), ("1000000000001", "too_many"), (True, "not_a_number"), (False, "not_a_number"),
        ([], "not_a_number"), ({}, "not_a_number"), ("", "not_a_number"), ("-1", "not_a_number"), ("1.0", "not_a_number"),
        ("1e3", "not_a_number"), ("٧", "not_a_number"), ("²", "not_a_number"), ("1_000", "not_a_number"), (b"7, 8", "not_a_number"),
    ],
)  # fmt: skip
def test_units_are_whole_numbers_that_are_not_negative(value: Any, units: int | str) -> None:
    assert units_of(value) == units


# --- a body -------------------------------------------------------------------------------------------------------------


def test_a_body_says_it_at_its_place() -> None:
    assert Answer(JSON).says(body(42)).units == 42


@given(st.lists(st.integers(0, 80), max_size=6))
def test_any_chunks_of_a_body_say_the_same(cuts: list[int]) -> None:
    whole = body(42)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    assert Answer(JSON).says(*(whole[a:b] for a, b in itertools.pairwise(places))).units == 42


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (body(None), "missing"), (b'{"usage": {}}', "missing"), (b"[]", "missing"), (b"42", "missing"), (b"", "not_json"),
        (b"<html>", "not_json"), (body(42)[:-1], "not_json"), (b'{"usage": {"total_tokens": 1e999}}', "not_json"),
        (body("many"), "not_a_number"),
        (body(-3), "negative"), (body(0.5), "not_whole"), (body(10**13), "too_many"), (b"[" * 100_000, "not_json"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_say_it_is_told_why(said: bytes, why: str) -> None:
    assert Answer(JSON).says(said).units == why


def test_a_body_is_looked_into_up_to_its_bound_and_no_byte_further() -> None:
    bounded = Settled(sources=JSON.sources, within=len(body(42)))
    assert Answer(bounded).says(body(42)).units == 42
    assert Answer(bounded).says(body(42), b" ").units == "too_large"
    announced = Answer(bounded, (b"Content-Length", b"%d" % (len(body(42)) + 1)))
    assert announced.says(body(42), ends=False).units == "too_large"


def test_no_more_than_the_bound_is_kept() -> None:
    answer = Answer(Settled(sources=JSON.sources, within=100)).says(*[b"x" * 64] * 50)
    assert answer.reading._body is None


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"identity, gzip", b"x"])
def test_an_encoded_answer_is_not_decoded(encoding: bytes) -> None:
    assert Answer(JSON, (b"Content-Encoding", encoding)).says(body(42)).units == "encoded"
    assert Answer(SSE, EVENT_STREAM, (b"content-encoding", encoding)).says(b"data: 1\n\n").units == "encoded"


def test_identity_is_no_encoding() -> None:
    assert Answer(JSON, (b"Content-Encoding", b"Identity")).says(body(42)).units == 42


def test_a_body_that_broke_off_says_nothing() -> None:
    assert Answer(JSON).says(body(42), ends=False).units == "broken_off"


def test_a_tunnel_has_no_body_that_could_say_it() -> None:
    assert Answer(JSON, status=101, switched=b"websocket").says(body(42)).units == "missing"


# --- events -------------------------------------------------------------------------------------------------------------

# what OpenAI and its like stream when asked for usage, and what Anthropic streams
CHAT = (
    b'data: {"choices":[{"delta":{"content":"total_tokens"}}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}\n\ndata: [DONE]\n\n'
)
MESSAGES = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":7}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
INPUT = Settled(sources=(Source("sse", "/message/usage/input_tokens"), Source("json", "/usage/input_tokens")))
OUTPUT = Settled(sources=(Source("sse", "/usage/output_tokens"), Source("json", "/usage/output_tokens")))


@given(st.sampled_from([b"\n", b"\r", b"\r\n"]), st.lists(st.integers(0, 500), max_size=8))
def test_the_last_event_that_has_it_says_it_whatever_the_chunks(end: bytes, cuts: list[int]) -> None:
    for cost, stream, units in ((SSE, CHAT, 21), (INPUT, MESSAGES, 25), (OUTPUT, MESSAGES, 15)):
        whole = stream.replace(b"\n", end)
        places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
        pieces = [whole[a:b] for a, b in itertools.pairwise(places)]
        assert Answer(cost, EVENT_STREAM).says(*pieces).units == units


def test_several_meters_read_one_answer() -> None:
    reading = Reading(Wanted([INPUT, OUTPUT]))
    answer = Answer(INPUT, EVENT_STREAM)
    answer.reading = reading
    answer.says(MESSAGES)
    assert (reading.units(INPUT), reading.units(OUTPUT)) == (25, 15)


def test_the_same_meter_reads_an_answer_that_is_no_stream() -> None:
    said = b'{"usage":{"input_tokens":25,"output_tokens":15}}'
    assert [Answer(cost, (b"Content-Type", b"application/json")).says(said).units for cost in (INPUT, OUTPUT)] == [25, 15]


def test_after_done_nothing_more_is_waited_for() -> None:
    answer = Answer(SSE, EVENT_STREAM).says(CHAT, ends=False)
    assert (answer.reading.whole, answer.units) == (True, 21)
    assert not Answer(OUTPUT, EVENT_STREAM).says(MESSAGES, ends=False).reading.whole


def test_data_in_several_lines_is_one_document() -> None:
    assert Answer(SSE, EVENT_STREAM).says(b'data: {"usage":\ndata: {"total_tokens": 5}}\n\n').units == 5


@pytest.mark.parametrize(
    ("stream", "units"),
    [
        (b"", "missing"), (b"data: total_tokens\n\n", "missing"), (b'data: {"usage":{"total_tokens":4}}\n\ndata: {"total_tokens"\n\n', 4),
        (b'data: {"usage":{"total_tokens":4}}\n\ndata: {"usage":{"total_tokens":-4}}\n\n', "negative"),
        (b'data: {"usage":{"total_tokens":4}}\n\ndata: {"usage":{"total_tokens":null}}\n\n', 4),
        (b'data: {"usage":{"total_tokens":4}}', 4), (b'data: {"\\u0075sage":{"\\u0074otal_tokens":4}}\n\n', 4),
    ],
)  # fmt: skip
def test_what_a_stream_may_say(stream: bytes, units: int | str) -> None:
    assert Answer(SSE, EVENT_STREAM).says(stream).units == units


def test_an_event_beyond_the_bound_casts_doubt_on_what_came_before() -> None:
    bounded, usage = Settled(sources=SSE.sources, within=64), b'data: {"usage":{"total_tokens":4}}\n\n'
    large = b"data: " + b"x" * 65 + b"\n\n"
    assert Answer(bounded, EVENT_STREAM).says(usage + large).units == "too_large"
    assert Answer(bounded, EVENT_STREAM).says(large + usage).units == 4


def test_a_source_of_events_wants_a_stream() -> None:
    assert Answer(SSE).says(body(42)).units == "not_events"
    assert Answer(JSON, EVENT_STREAM).says(CHAT).units == "missing"


# --- fields -------------------------------------------------------------------------------------------------------------


def test_a_header_says_it_at_once() -> None:
    cost = Settled(sources=(Source("header", "X-Tokens"),))
    assert Answer(cost, (b"x-tokens", b"7"), (b"X-Tokens", b"8")).says(b"", ends=False).units == 7
    assert Answer(cost, (b"X-Tokens", b"seven")).says(b"").units == "not_a_number"
    assert Answer(cost).says(b"").units == "missing"


def test_a_trailer_says_it_at_the_end() -> None:
    answer = Answer(Settled(sources=(Source("trailer", "X-Tokens"),))).says(b"x", ends=False)
    assert answer.units == "missing"
    answer.trailers.append((b"x-tokens", b"7"))  # as a connection adds them
    assert answer.says(b"").units == 7


def test_of_several_sources_the_first_that_says_anything_counts() -> None:
    both = Settled(sources=(Source("header", "X-Tokens"), Source("json", "/usage/total_tokens")))
    assert Answer(both, (b"X-Tokens", b"7")).says(body(42)).units == 7
    assert Answer(both).says(body(42)).units == 42
    assert Answer(both).says(b"<").units == "not_json"
    assert Answer(both, (b"X-Tokens", b"x")).says(b"<").units == "not_a_number"


def test_no_answer_says_nothing() -> None:
    assert Reading(Wanted([JSON])).units(JSON) == "missing"


_FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Type", b"content-encoding", b"X-Tokens", b"X"]),
        st.sampled_from([b"text/event-stream", b"application/json", b"gzip", b"identity", b"5", b"-5", b"\xff", b""])
        | st.binary(max_size=5),
    ),
    max_size=4,
)
_SCRAPS = st.sampled_from(
    [b"data: ", b"\n\n", b"\r", b'{"usage":', b'{"total_tokens":', b"5", b"1e400", b"}}", b"[DONE]", b"null", b"\xff", b"["]
)


@given(_FIELDS, st.lists(_SCRAPS | st.binary(max_size=8), max_size=20), st.booleans(), st.sampled_from([200, 204, 304, 400, 500]))
def test_whatever_a_service_sends_is_a_number_within_bounds_or_a_reason(
    fields: list[tuple[bytes, bytes]], pieces: list[bytes], ends: bool, status: int
) -> None:
    every = Settled(sources=(Source("header", "X-Tokens"), Source("trailer", "X"), *SSE.sources, *JSON.sources), within=40)
    found = Answer(every, *fields, status=status).says(*pieces, ends=ends).units
    assert 0 <= found <= 10**12 if isinstance(found, int) else found in REASONS


def test_every_reason_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "units.md").read_text()
    rows = [line for line in text[text.index("| reason |") :].splitlines() if line.startswith("| `")]
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])} == REASONS
