"""An operation: one thing that can be asked or done, with its question and answer as models, the scope it takes, and where REST has it.

Doors differ in how they read a question and show an answer; what happens between is here once. An operation holds no rule of its own:
it calls use cases and says their results in models.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from billing.model.letters.letter import House
from billing.model.token import Scope
from billing.services.access import Caller
from billing.services.use_cases import Billing
from metering.model.errors import WeighbridgeError


class Model(BaseModel):
    """A question or an answer. What it does not know, it refuses; once made, it stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Model):
    """A question that needs no words."""


# Money and other exact figures are written as they are, never as floats: "35.00".
Amount = Annotated[
    Decimal,
    PlainSerializer(lambda number: format(number, "f"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "decimal", "examples": ["35.00"]}),
]


# An amount that is said to us: of a size that money has, so that nothing overflows behind the door.
GivenAmount = Annotated[Amount, Field(ge=-(10**12), le=10**12, max_digits=24)]


class About(StrEnum):
    """Whom an operation is about, and so which callers may use it."""

    ORG = "org"  # one organization: the caller's own, or the one that is named
    EITHER = "either"  # that, or the whole installation where a caller that is bound to none names none
    ALL = "all"  # the installation, of it one organization where one is named: only callers that are bound to none
    ANYBODY = "anybody"  # what every caller may know


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What operations need to know of the installation. `back_to` is where pages at Stripe send people afterwards; `house` writes mails."""

    currency: str = "usd"
    default_plan: str | None = "free"
    issuer: str = "stripe"
    back_to: str = ""
    house: House = House(product="Weighbridge")  # noqa: RUF009  immutable


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One use of an operation. `org_id` is the organization's id where it is about one; `body` what is uploaded, for those that take it."""

    billing: Billing
    caller: Caller
    facts: Facts
    now_ms: int
    org_id: str | None = None
    body: AsyncIterator[bytes] | None = None

    @property
    def org(self) -> str:
        """The organization's id; only for operations about one."""
        if self.org_id is None:
            raise ValueError("this operation is about no organization")
        return self.org_id


class Download:
    """An answer that is a file: its pieces, one after another."""

    def __init__(self, pieces: AsyncIterator[bytes], *, content_type: str, filename: str) -> None:
        self.pieces, self.content_type, self.filename = pieces, content_type, filename


A = TypeVar("A", bound=Model)
R = TypeVar("R")  # a Model, or Download
Run = Callable[[Call, A], Awaitable[R]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[A, R]):
    """`name` is noun.verb, as on the command line; `path` is under /api/v1/billing, its {names} are fields of `ask`. `errors` are those
    that it may raise beside what every one may. `upload`: the request's body is a file (`Call.body`), and `ask` is in the query.
    `unbound`: it is about one organization, and no matter for that one itself, as granting it credit is: only callers that are bound to
    none may. `by_token`: an API key, which programs carry, does not do for it."""

    name: str
    method: str
    path: str
    need: Scope
    about: About
    ask: type[A]
    answer: Any  # type[R]
    run: Run[A, R]
    summary: str
    status: int = 200
    errors: tuple[type[WeighbridgeError], ...] = ()
    upload: bool = False
    unbound: bool = False
    by_token: bool = False

    @property
    def reads(self) -> bool:
        """Changes nothing."""
        return self.method == "GET"


def operation(
    method: str,
    path: str,
    *,
    name: str,
    need: Scope = Scope.READ,
    about: About = About.ORG,
    status: int = 200,
    errors: tuple[type[WeighbridgeError], ...] = (),
    upload: bool = False,
    unbound: bool = False,
    by_token: bool = False,
) -> Callable[[Run[A, R]], Operation[A, R]]:
    """Makes an operation of an async function (call, ask) -> answer: models from its annotations, summary from its docstring."""

    def made(run: Run[A, R]) -> Operation[A, R]:
        hints = get_type_hints(run)
        return Operation(
            name=name, method=method, path=path, need=need, about=about, ask=hints["ask"], answer=hints["return"], run=run,
            summary=(run.__doc__ or "").strip(), status=status, errors=errors, upload=upload, unbound=unbound, by_token=by_token,
        )  # fmt: skip

    return made
