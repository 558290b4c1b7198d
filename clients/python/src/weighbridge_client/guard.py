"""Checks before the work and usage behind it, for the frameworks (aiohttp.py, fastapi.py, django.py) and for programs without one."""

from collections.abc import Mapping

from .aio import AsyncWeighbridge
from .errors import ClientError
from .events import Event
from .needs import Asking, Needs, Refusal, Rules
from .recorder import AsyncRecorder, Recorder
from .sync import Weighbridge

_NOTHING: Mapping[str, str] = {}


class Guard:
    """`recorder` is needed where work records something."""

    def __init__(self, client: Weighbridge, recorder: Recorder | None = None, rules: Rules | None = None) -> None:
        self._client, self._recorder, self._rules = client, recorder, rules or Rules()

    def check(self, needs: Needs, org: str | None, headers: Mapping[str, str] = _NOTHING) -> Refusal | None:
        """None: the work may run. Raises Refused where Weighbridge refuses to say (a wrong token, no such organization)."""
        asking = self._rules.check(needs, org, headers)
        try:
            call = next(asking)
            while True:
                try:
                    answer = self._client.send(call)
                except ClientError as fault:
                    call = asking.throw(fault)
                else:
                    call = asking.send(answer)
        except StopIteration as end:
            return _said(end)

    def done(self, needs: Needs, org: str | None) -> None:
        """The work ran: record what it is to record. Raises BufferFull."""
        if needs.records is not None:
            if self._recorder is None:
                raise RuntimeError("nothing records here: give the guard a recorder")
            self._recorder.record(Event(service=needs.records, quantity=needs.quantity), org=org)


class AsyncGuard:
    """The same for asyncio."""

    def __init__(self, client: AsyncWeighbridge, recorder: AsyncRecorder | None = None, rules: Rules | None = None) -> None:
        self._client, self._recorder, self._rules = client, recorder, rules or Rules()

    async def check(self, needs: Needs, org: str | None, headers: Mapping[str, str] = _NOTHING) -> Refusal | None:
        """None: the work may run. Raises Refused where Weighbridge refuses to say (a wrong token, no such organization)."""
        asking: Asking = self._rules.check(needs, org, headers)
        try:
            call = next(asking)
            while True:
                try:
                    answer = await self._client.send(call)
                except ClientError as fault:
                    call = asking.throw(fault)
                else:
                    call = asking.send(answer)
        except StopIteration as end:
            return _said(end)

    def done(self, needs: Needs, org: str | None) -> None:
        """The work ran: record what it is to record. Raises BufferFull."""
        if needs.records is not None:
            if self._recorder is None:
                raise RuntimeError("nothing records here: give the guard a recorder")
            self._recorder.record(Event(service=needs.records, quantity=needs.quantity), org=org)


def _said(end: StopIteration) -> Refusal | None:
    refusal: Refusal | None = end.value
    return refusal
