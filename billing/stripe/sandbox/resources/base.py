"""What every resource uses: one call's facts, the registry of handlers, lists page by page, metadata."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from billing.stripe.sandbox.errors import Refusal, no_such, not_imitated
from billing.stripe.sandbox.store import Store

Body = dict[str, Any]
_CURRENCY = re.compile(r"[a-z]{3}")
_PAGE_DEFAULT, _PAGE_MOST = 10, 100
_PAGING = frozenset({"limit", "starting_after", "ending_before"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed Stripe's schema, or a piece of work that fell due (then without path and parameters).

    `now` is the time of the customer concerned, which a test clock may have moved; `wall` is the sandbox's own. Unix seconds.
    """

    store: Store
    path: Mapping[str, str]
    params: Mapping[str, Any]
    now: int
    url: str = ""
    wall: int = 0
    request_id: str | None = None
    key: str | None = None

    def of(self, owner: Mapping[str, Any]) -> "Call":
        """This call at the time that `owner` (anything with a test_clock) lives in."""
        clock = self.store.get("test_helpers.test_clock", owner["test_clock"]) if owner.get("test_clock") else None
        return replace(self, now=clock["frozen_time"]) if clock else self

    def only(self, imitated: Collection[str]) -> None:
        """Refuse parameters that Stripe knows and the sandbox would silently drop."""
        for name in self.params:
            if name != "expand" and name not in imitated:
                raise not_imitated(f"the parameter {name} of this request", name)


Handler = Callable[[Call], Body]
HANDLERS: dict[str, Handler] = {}


def handles(operation_id: str) -> Callable[[Handler], Handler]:
    """Register the handler of one of Stripe's operations."""

    def register(handler: Handler) -> Handler:
        HANDLERS[operation_id] = handler
        return handler

    return register


def fetch(call: Call, kind: str, object_id: str, *, noun: str, param: str, status: int = 400) -> Body:
    """The stored object. Raises Refusal as for any id that does not exist."""
    found = call.store.get(kind, object_id)
    if found is None:
        raise no_such(noun, object_id, param=param, status=status)
    return found


def page(call: Call, objects: Iterable[Body], *, filters: Collection[str] = ()) -> Body:
    """One page of `objects` (newest first), as Stripe's lists are paged."""
    call.only({*_PAGING, *filters})
    limit = call.params.get("limit", _PAGE_DEFAULT)
    if not 1 <= limit <= _PAGE_MOST:
        raise Refusal(f"Invalid limit: must be between 1 and {_PAGE_MOST}", param="limit")
    everything = list(objects)
    rest, backwards = _after_cursor(call, everything)
    data = rest[-limit:] if backwards else rest[:limit]
    return {"object": "list", "url": call.url, "has_more": len(rest) > limit, "data": data}


def _after_cursor(call: Call, objects: list[Body]) -> tuple[list[Body], bool]:
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after is not None and before is not None:
        raise Refusal("You cannot parameterize both starting_after and ending_before.", param="starting_after")
    if after is None and before is None:
        return objects, False
    ids = [item["id"] for item in objects]
    cursor, param = (after, "starting_after") if after is not None else (before, "ending_before")
    if cursor not in ids:
        raise no_such("object", str(cursor), param=param)
    at = ids.index(cursor)
    return (objects[at + 1 :], False) if after is not None else (objects[:at], True)


def created_within(body: Body, wanted: Any) -> bool:
    """The `created` filter: an instant, or any of gt, gte, lt, lte."""
    if wanted is None:
        return True
    at = body["created"]
    if isinstance(wanted, int):
        return bool(at == wanted)
    tests = {"gt": at > wanted.get("gt", at - 1), "gte": at >= wanted.get("gte", at)}
    tests |= {"lt": at < wanted.get("lt", at + 1), "lte": at <= wanted.get("lte", at)}
    return all(tests.values())


def metadata(given: Any, old: Mapping[str, str] | None = None) -> dict[str, str]:
    """Metadata after a request: keys are merged, an empty value removes its key, an empty string removes all."""
    if given == "":
        return {}
    merged = {**(old or {}), **(given or {})}
    kept = {key: value for key, value in merged.items() if value != ""}
    if len(kept) > 50:
        raise Refusal("Metadata can have at most 50 keys", param="metadata")
    for key, value in kept.items():
        if len(key) > 40 or len(value) > 500:
            raise Refusal("Metadata keys have at most 40 characters, values at most 500", param=f"metadata[{key}]")
    return kept


def currency(code: str, param: str = "currency") -> str:
    """Stripe answers lower-case codes whatever was sent."""
    if not _CURRENCY.fullmatch(code.lower()):
        raise Refusal(f"Invalid currency: {code}", param=param)
    return code.lower()


def given_text(call: Call, name: str, old: str | None = None) -> str | None:
    """A text parameter that an empty string unsets."""
    value = call.params.get(name, old)
    return value or None
