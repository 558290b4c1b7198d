"""Limits on a route: who can be told apart there, and whether what they count ever moves."""

from collections.abc import Iterator, Mapping

from metering.model.quota import Per, Rate

from .document import Table
from .faults import Report
from .gateway import Cost, Fixed, Messages, Settled, drawn
from .gateway_file import RouteShape
from .limits import make_rates


def _limits(shape: RouteShape) -> Iterator[tuple[Table, str, str]]:
    """Where each limit stands, the word that says whose use it adds up, and what that says."""
    for quota in shape.quotas:
        if quota is not None:
            yield quota.table, "per", quota.per
    for rate in (shape.rate, *shape.rates):
        if rate is not None:
            yield rate.table, "by", rate.by
    for each in shape.concurrency:
        if each is not None:
            yield shape.table, "concurrency", each.by


def check_callers(shape: RouteShape, *, is_open: bool, report: Report) -> None:
    """Nobody is known on an open route but by address, and everybody on any other by key."""
    for table, word, per in _limits(shape):
        if is_open and per != Per.ADDRESS:
            report.fault(table, word, f"anybody may call an open route, known by nothing but an address; write {_said(word, 'address')}")
        elif not is_open and per == Per.ADDRESS:
            report.fault(table, word, f"`address` is for open routes (auth: none); who calls here is known: write {_said(word, 'key')}")


def check_tenants(shape: RouteShape, *, named: bool, report: Report) -> None:
    """Where no call says for whom it is, a limit by tenant would be one for all."""
    for table, word, per in _limits(shape):
        if per == Per.TENANT and not named:
            sentence = "no call says here for whom it is; write tenant: {header: X-Tenant-Id} on the route or in the defaults"
            report.fault(table, word, sentence)


def _said(word: str, per: str) -> str:
    return f"concurrency: {{limit: 2, by: {per}}}" if word == "concurrency" else f"{word}: {per}"


def open_charge(shape: RouteShape, charge: Mapping[str, Cost], report: Report) -> dict[str, Cost]:
    """What a call of an open route weighs: only what its own limits by address count. Nobody is charged for it."""
    limited = {quota.meter for quota in shape.quotas if quota is not None and quota.per == Per.ADDRESS}
    limited |= {rate.meter for rate in (shape.rate, *shape.rates) if rate is not None and rate.meter and rate.by == Per.ADDRESS}
    settled = [meter for meter, cost in charge.items() if isinstance(cost, Settled | Messages) and meter in limited]
    if settled:
        sentence = f"calls of an open route are not written down, so `{settled[0]}` could not be settled; write a number, or auth: required"
        report.fault(shape.table, "charge" if "charge" in shape.table else "auth", sentence)
    written = shape.table.get("charge") or () if limited else charge
    for_nobody = [meter for meter in charge if meter not in limited and meter in written]
    if for_nobody:
        sentence = f"an open route has nobody to charge for {', '.join(for_nobody)}; write charge: none, or auth: required"
        report.fault(shape.table, "charge" if "charge" in shape.table else "auth", sentence)
    return {meter: cost for meter, cost in charge.items() if meter in limited or meter in for_nobody}


def route_rates(shape: RouteShape, charge: Mapping[str, Cost], report: Report) -> tuple[Rate, ...]:
    """The route's rates. One on a meter is moved by what a call weighs, which must be known before it, and fit into the burst."""
    shapes = [rate for rate in (shape.rate, *shape.rates) if rate is not None]
    for rate in shapes:
        if rate.meter is None or report.meter(rate.meter) is None:
            continue
        cost = charge.get(rate.meter)
        if cost is None:
            sentence = f"the route charges no `{rate.meter}`, so this rate would never move; add it to the route's charge"
            report.fault(rate.table, "meter", sentence)
        elif not drawn(cost) and cost != Fixed(0):
            sentence = f"what a call weighs in `{rate.meter}` is known when it ends; a rate needs a number there, or a reserve"
            report.fault(rate.table, "meter", sentence)
    made = make_rates(shapes, report, source="route")
    for one in made:
        units = drawn(charge.get(one.meter)) if one.meter else 0
        if units > one.depth:
            where = next(each for each in shapes if (each.meter, each.per, each.by) == (one.meter, one.per, one.by)).table
            sentence = f"a call here weighs {units:,}, and at most {one.depth:,} pass at once: none ever would; write burst: {units}"
            report.fault(where, "burst" if "burst" in where else "limit", sentence)
    return made
