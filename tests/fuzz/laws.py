"""What must hold of one case. Pure: what was sent, what the service saw, what the client got; out come the breaches, in words.

The strict reader says which requests are in the client's bytes. The gateway may refuse more than it must, and closes then; but whatever
it passes on must be those requests, in that order, to the byte, and every answer must be the one to the request it stands for.
"""

from dataclasses import dataclass

from .grammar import Stream
from .origin import Seen
from .strict import Request, Response, requests_in, responses_in


@dataclass
class Transcript:
    """What came of one stream. `closed`: eof, reset, or "" where the client left."""

    received: bytes
    closed: str
    timed_out: bool
    seen: list[Seen]

    def to_json(self) -> dict[str, object]:
        seen = [f"{each.number}: {short(each.request)}" for each in self.seen]
        return {"received": self.received.hex(), "closed": self.closed, "timed_out": self.timed_out, "seen": seen}


def expected(stream: Stream) -> tuple[list[Request], str]:
    """What a strict server reads in it."""
    return requests_in(stream.data)


def breaches(stream: Stream, transcript: Transcript) -> list[str]:
    """All that went against the law."""
    wanted, end = expected(stream)
    found: list[str] = []
    responses, how = responses_of(transcript, wanted)
    if how.startswith("fault") or (how == "short" and transcript.closed == "eof"):
        found.append(f"the client got what is no whole response: {how}")
    if transcript.timed_out and end == "close":
        found.append("the connection neither closed nor answered in time")
    left = _walk(wanted, responses, transcript, found)
    _in_flight(wanted, responses, left, not transcript.closed, found)
    if stream.clean and not stream.leaves:
        statuses = [response.status for response in responses]
        if statuses != [200] * len(wanted) or transcript.closed != "eof":
            found.append(f"a clean stream was not answered in full: {statuses}, {transcript.closed}")
    return found


def responses_of(transcript: Transcript, wanted: list[Request]) -> tuple[list[Response], str]:
    methods = [request.method for request in wanted]
    ended = transcript.closed == "eof"
    responses, how = responses_in(transcript.received, methods, ended=ended)
    if "behind" in how and b"HEAD" in methods:  # a refusal without a reading of its request brings its body to HEAD too
        responses, how = responses_in(transcript.received, [*methods[: len(responses) - 1], b"GET"], ended=ended)
    return responses, how


def _walk(wanted: list[Request], responses: list[Response], transcript: Transcript, found: list[str]) -> list[Seen]:
    """Hold each answer against its request, in order; what the service saw beyond them is left."""
    left = list(transcript.seen)
    for at, response in enumerate(responses):
        request = wanted[at] if at < len(wanted) else None
        last = at == len(responses) - 1
        if response.all(b"x-seen"):
            if request is None:
                found.append(f"passed on what is no request: {left[0].request if left else response}")
                return left
            _passed(request, response, left, last, found)
        else:
            _refused(request, response, last, transcript, found)
    return left


def _passed(request: Request, response: Response, left: list[Seen], last: bool, found: list[str]) -> None:
    number = int(response.all(b"x-seen")[0])
    if not left or left[0].number != number:
        found.append(f"an answer to another request: {number}, not {left[0].number if left else None}")
        return
    seen = left.pop(0)
    if not same(request, seen.request) or not request.whole or not seen.request.whole:
        found.append(f"the service saw {short(seen.request)}, the client sent {short(request)}")
    if response.body != seen.expected and (response.whole or not seen.expected.startswith(response.body)):
        found.append(f"an answer with another body: {response.body[:80]!r}, not {seen.expected[:80]!r}")
    if not response.whole and not last:
        found.append("an answer behind half an answer")


def _refused(request: Request | None, response: Response, last: bool, transcript: Transcript, found: list[str]) -> None:
    if response.ends:
        if not last:
            found.append(f"went on behind a refusal that closes: {response.status}")
    elif request is None or request.fault:  # a call that was understood may be refused and the connection kept
        found.append(f"kept the connection after {response.status} to {short(request)}")


def _in_flight(wanted: list[Request], responses: list[Response], left: list[Seen], gone: bool, found: list[str]) -> None:
    """What was begun and not answered: one request, and it is the next one, as far as it came. To a client that went away several may
    have been answered in vain, or refused.
    """
    rest = iter(wanted[max(len(responses) - 1, 0) :] if gone else wanted[max(len(responses) - 1, 0) :][:2])
    in_order = all(any(begins(seen.request, request) for request in rest) for seen in left)
    if not in_order or (len(left) > 1 and not gone):
        found.append(f"the service saw {[short(seen.request) for seen in left]}, which the client did not send next")


def same(one: Request, other: Request) -> bool:
    return (one.method, one.target, one.body) == (other.method, other.target, other.body)


def begins(seen: Request, request: Request) -> bool:
    """Whether the service saw this request, or as much of it as had come."""
    if (seen.method, seen.target) != (request.method, request.target):
        return False
    return request.body.startswith(seen.body) and (not seen.whole or request.whole)


def short(request: Request | None) -> str:
    if request is None:
        return "nothing"
    return f"{request.method!r} {request.target[:60]!r} {len(request.body)} bytes{'' if request.whole else ', not whole'}"
