"""Weighbridge for Python: check features and quotas, record usage, read the events that it sends.

`weighbridge_client.aiohttp`, `.fastapi` and `.django` put checks around handlers; `.webhooks` knows events by their signature.
"""

from .aio import AsyncWeighbridge
from .answers import Batch, Feature, Limit, Outcome, Quota, Subscription
from .errors import BufferFull, ClientError, NotSigned, Refused, Unreachable
from .events import Event
from .guard import AsyncGuard, Guard
from .needs import Needs, Refusal, Rules
from .recorder import AsyncRecorder, Recorder
from .sync import Weighbridge

__all__ = [
    "AsyncGuard",
    "AsyncRecorder",
    "AsyncWeighbridge",
    "Batch",
    "BufferFull",
    "ClientError",
    "Event",
    "Feature",
    "Guard",
    "Limit",
    "Needs",
    "NotSigned",
    "Outcome",
    "Quota",
    "Recorder",
    "Refusal",
    "Refused",
    "Rules",
    "Subscription",
    "Unreachable",
    "Weighbridge",
]
