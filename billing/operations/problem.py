"""A refusal, as every door of control says it: RFC 9457, with our code beside."""

from typing import Any

from pydantic import Field

from billing.operations.operation import Model
from metering.model.errors import WeighbridgeError

MEDIA_TYPE = "application/problem+json"


class Problem(Model):
    """`code` is the same word as in the gateway's refusals; `details` carries what a program needs."""

    type: str = Field(examples=["urn:weighbridge:problem:no_such_plan"])
    title: str
    status: int
    detail: str
    code: str
    details: dict[str, Any] = Field(default_factory=dict)


def problem(error: WeighbridgeError) -> Problem:
    title = (type(error).__doc__ or error.code).strip().partition("\n")[0].rstrip(".")
    return Problem(
        type=f"urn:weighbridge:problem:{error.code}", title=title, status=error.http_status, detail=str(error), code=error.code,
        details=error.details,
    )  # fmt: skip
