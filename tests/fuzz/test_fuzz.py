"""A short fuzz run with fixed seeds. `make fuzz` runs for minutes, with a seed of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from . import laws, run
from .answers import plan
from .grammar import Grammar, Stream
from .origin import Script, Seen
from .strict import requests_in

KEY = b"wbk_live_key"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with run.fuzz_rig(tmp_path_factory.mktemp("fuzz")) as both:
        yield both


async def test_gateway_and_service_agree_on_every_request_and_answer(rig: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "FAULTS", tmp_path)
    report = await run.Fuzz(*rig, seed=20_260_101).run(cases=300)
    assert report.broken == []
    assert report.passed > 150
    assert report.refused > 80


async def test_a_breach_is_saved_and_can_be_made_again(rig: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Under a law that nothing may be answered, every case is a breach."""
    monkeypatch.setattr(run, "FAULTS", tmp_path)
    monkeypatch.setattr(laws, "breaches", lambda stream, transcript: ["answered"])
    fuzz = run.Fuzz(*rig, seed=7)
    await fuzz.origin.start()
    await fuzz.case(4, 1)
    await fuzz.origin.stop()
    saved = json.loads((tmp_path / "7-4.json").read_text())
    assert saved["breaches"] == ["answered"]
    assert bytes.fromhex(saved["sent"]) == Grammar(Random("7:4"), "4", run.KEYS[1].encode()).stream().data


def test_one_seed_makes_one_stream() -> None:
    first, again = [Grammar(Random("1:2"), "2", KEY).stream() for _ in range(2)]
    assert first == again
    assert plan(Random("1:3"), "3", KEY) == plan(Random("1:3"), "3", KEY)


def test_the_grammar_makes_clean_streams_and_every_kind_of_end() -> None:
    streams = [Grammar(Random(seed), f"{seed:x}", KEY).stream() for seed in range(1_000)]
    ends = {requests_in(stream.data)[1] for stream in streams}
    assert ends >= {"close", "fault", "short"}
    clean = [stream for stream in streams if stream.clean]
    assert len(clean) > 50
    assert {requests_in(stream.data)[1] for stream in clean} == {"close"}


# --- the laws themselves: each breach is seen -----------------------------------------------------------------------------

ASKED = b"POST /f/1/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /end/1/2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
FIRST = b"HTTP/1.1 200 OK\r\nX-Seen: 1\r\nContent-Length: 3\r\n\r\none"
LAST = b"HTTP/1.1 200 OK\r\nX-Seen: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo"


def seen(*raw: bytes) -> list[Seen]:
    words = (b"one", b"two", b"three")
    return [Seen(at + 1, requests_in(each)[0][0], 1, words[at], ended=True) for at, each in enumerate(raw)]


def judged(received: bytes, *calls: bytes, sent: bytes = ASKED, clean: bool = True) -> list[str]:
    stream = Stream("1", sent, [], clean, False)
    return laws.breaches(stream, laws.Transcript(received, "eof", False, seen(*calls)))


ONE, TWO = ASKED[: ASKED.index(b"GET /end")], ASKED[ASKED.index(b"GET /end") :]
BREACHES = {
    "another body": judged(FIRST + LAST, ONE.replace(b"hi", b"ho"), TWO),
    "another target": judged(FIRST + LAST, ONE.replace(b"/1/1", b"/1/3"), TWO),
    "answers in another order": judged(FIRST.replace(b"1\r", b"2\r", 1) + LAST.replace(b"Seen: 2", b"Seen: 1"), ONE, TWO),
    "an answer with another's words": judged(FIRST.replace(b"one", b"two") + LAST, ONE, TWO),
    "a request too many": judged(FIRST + LAST, ONE, TWO, ONE),
    "half an answer with a clean end": judged(FIRST + LAST[:-1], ONE, TWO),
    "bytes behind": judged(FIRST + LAST + b"evil", ONE, TWO),
    "a request out of a faulty stream": judged(FIRST + LAST, ONE, TWO, sent=ASKED.replace(b"Length: 2", b"Length: +2"), clean=False),
    "a refusal that goes on": judged(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n" + LAST, TWO, clean=False),
    "no answer to a clean stream": judged(b""),
}


def test_a_faithful_case_breaks_no_law() -> None:
    assert judged(FIRST + LAST, ONE, TWO) == []


@pytest.mark.parametrize("found", BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_is_seen(found: list[str]) -> None:
    assert found


def test_the_service_of_the_run_answers_as_it_is_told() -> None:
    answers = plan(Random(5), "5", KEY)
    call = seen(b"GET /odd/5/0 HTTP/1.1\r\nHost: a\r\n\r\n")[0]
    assert answers.answer(call) == Script(answers.steps[0].pieces, answers.steps[0].then)
