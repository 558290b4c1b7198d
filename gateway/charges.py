"""What one call will be charged, against which limits: worked out once, shared by all equal calls.

Pure. A charge holds from one window boundary to the next; the scripts compare its bounds with server time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import gcd
from typing import TYPE_CHECKING

from config.gateway import Cost, Fixed, Route, Settled, Weighed, drawn
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.ledger import TEST
from metering.model.period import period_at, window_at
from metering.model.quota import CLOSED, OPEN, Concurrency, FailureRule, Mode, Per, Quota, Rate, Window, strictest

from .bypasses import NO_BYPASS, Bypasses
from .drawing import Cut, Room, Upload
from .kept import Kept
from .limits import Limit, Policy, RateLimit, SlotLimit, blocks_at
from .tally import Template, next_tid
from .tenants import TenantNames
from .units import Wanted
from .wire import Counted, Pieces, Word, pieces

if TYPE_CHECKING:
    from .exchange import Scales

_NO_KEY = KeyRecord(key_id=0, org_id="")
_MOST_DEBT = 2**52  # the script's numbers are exact up to here
_MOST_THROTTLES = 4  # of one call; the script takes a template for every way in which they can be reached
VARIANTS_KEPT = 10_000


class Said:
    """What the calls were told that stood at `used`, in that second (responses.py)."""

    __slots__ = ("lines", "second", "used")

    def __init__(self, used: tuple[int, ...], second: int, lines: bytes) -> None:
        self.used, self.second, self.lines = used, second, lines


@dataclass(slots=True, eq=False)
class Charge:
    """The limit-and-cost vector of equal calls, the route it was read from, and the journal's templates for them.

    `templates[beyond]` is what a call is charged, by the throttles whose main limit it was beyond, as bits; the first is the
    ordinary one. `counted` is False where nothing is to be written down: no meter, or nobody's. `decides` is False where no
    limit and no meter is met at all: nobody need be asked. `plain`: counted, by quotas alone. `shown` is the length of Decision.used,
    `told` how many numbers the store's answer has behind what was granted.
    `settles`: what is reserved now and known when the answer has said it; `wanted`: what to read in it.
    `shadows`: some limit only pretends. Where a limit goes by address or tenant, `varies` is set, and a call asks `variant` for
    the charge that is its own; so it does where bytes are cut off (`cut`: drawing.py). `ordinary`: its calls are weighed as they go.
    A drawing (`draws`) is asked for units instead of calls, `whole` for all of them or none; an `upload` has some in hand.
    """

    templates: tuple[Template, ...]
    bucket: int
    org_id: str
    version: str
    from_ms: int
    until_ms: int
    limits: tuple[Limit, ...]
    weighed: tuple[tuple[str, Cost], ...]
    rule: FailureRule
    route: Route
    rates: tuple[RateLimit, ...]
    slots: tuple[SlotLimit, ...]
    counted: bool
    pieces: Pieces
    settles: tuple[tuple[str, Settled], ...] = ()
    varies: bool = False
    by_address: bool = False
    policy: Policy | None = None  # once it was asked for
    cut: Cut | None = None
    whole: bool = False
    upload: Upload | None = None
    room: Room | None = None
    drawings: "dict[tuple[tuple[str, ...], int], Charge] | None" = None
    make: "Callable[[str, str], Charge] | None" = None
    looks: "tuple[Charge, ...] | None" = None  # once it was asked for: what a tunnel asks that goes on (looks.py)
    template: Template = field(init=False)
    plain: bool = field(init=False)
    shadows: bool = field(init=False)
    throttles: int = field(init=False)
    shown: int = field(init=False)
    told: int = field(init=False)
    decides: bool = field(init=False)
    wanted: Wanted | None = field(init=False)
    ordinary: bool = field(init=False)
    draws: bool = field(init=False)
    said: Said | None = field(init=False, default=None)
    scales: "Scales | None" = field(init=False, default=None)  # once one of its calls was admitted (exchange.py)

    def __post_init__(self) -> None:
        self.template = self.templates[0]
        self.throttles = sum(limit.main is not None for limit in self.limits)
        self.shown = len(self.limits) + len(self.rates) + len(self.slots)
        self.told = self.shown + self.throttles + len(self.rates)
        self.draws = self.room is not None
        self.plain = self.counted and not (self.rates or self.slots or len(self.templates) > 1 or self.draws or self.upload)
        self.shadows = (
            any(rate.shadow for rate in self.rates)
            or any(slot.shadow for slot in self.slots)
            or any(limit.shadowed is not None for limit in self.limits)
        )
        self.wanted = Wanted(cost for _, cost in self.settles) if self.settles else None
        self.ordinary = self.wanted is None and self.cut is None
        self.decides = bool(self.limits or self.rates or self.slots)

    def holds(self, now_ms: int) -> bool:
        return self.from_ms <= now_ms < self.until_ms

    def template_of(self, beyond: int) -> Template:
        """What a call is charged that was beyond these throttles when it began. Windows may have turned since."""
        return self.templates[beyond] if beyond < len(self.templates) else self.template

    def variant(self, address: str, tenant: str) -> "Charge":
        """This charge for calls from this address (empty unless `by_address`), of this tenant. Holds as long as this one."""
        name = (self, address, tenant)
        found = _variants.known.get(name)
        if found is None:
            assert self.make is not None
            found = _variants.keep(name, self.make(address, tenant))
        return found


_variants = Kept[tuple[Charge, str, str], Charge](VARIANTS_KEPT)  # of all charges together


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What a charge is made of. `keyed` False: nobody's call, of which only limits by address can be kept."""

    entitlement: Entitlement
    route: Route
    method: str
    key: KeyRecord
    now_ms: int
    bypasses: Bypasses
    address: str
    tenant: str
    keyed: bool
    names: TenantNames | None = None
    length: int = 0  # of the request's body, where its bytes are drawn when the call is admitted

    @property
    def org_id(self) -> str:
        return self.entitlement.org_id

    def scope(self, per: Per, routed: bool) -> str:
        return keys.limit_scope(per, routed, route_id=self.route.id, key_id=self.key.key_id, tenant=self.tenant, address=self.address)

    def measure(self, meter: str) -> str:
        """What its units are counted under. Those of a test key are kept apart, where nothing is priced and no other quota looks."""
        return TEST + meter if self.key.test else meter

    def kept(self, per: Per) -> bool:
        return self.keyed or per is Per.ADDRESS

    def bypassed_until(self, meter: str | None) -> int | None:
        return self.bypasses.covers(self.org_id if self.keyed else "", meter, self.now_ms)

    @property
    def dimensions(self) -> str:
        """What keeps this call's usage apart in the ledger."""
        apart = self.keyed and self.route.by_tenant and self.names is not None
        return self.names.dimension(self.org_id, self.tenant, self.now_ms) if apart and self.names is not None else ""

    @property
    def costs(self) -> dict[str, int]:
        """What is charged when the call is admitted."""
        return {meter: drawn(cost) for meter, cost in self.route.charge.items() if isinstance(cost, Fixed | Settled)}

    def cut_at(self, quota: Quota) -> int | None:
        """Where bytes that this quota weighs are cut off."""
        weighs = isinstance(self.route.charge.get(quota.meter), Weighed)
        return blocks_at(quota) if weighs and quota.at_limit == "cut" and quota.mode is not Mode.THROTTLE else None

    def quotas(self) -> list[Quota]:
        """A test key uses up what is its own, and nothing that it shares."""
        met = [q for q in (*self.entitlement.quotas_at(self.now_ms), *self.route.quotas) if not self.key.test or q.per is Per.KEY]
        met += self.key.quotas
        meters = self.route.charge if self.keyed else self.costs
        return [q for q in met if q.limit is not None and self.kept(q.per) and q.meter in meters]

    def rates(self) -> list[Rate]:
        """Those on a meter that is charged when the call begins, and those on no meter; what is weighed later has no rate."""
        met = (*self.entitlement.rates_at(self.now_ms), *self.route.rates, *self.key.rates)
        return [r for r in met if self.kept(r.by) and (r.meter is None or self.costs.get(r.meter))]

    def concurrency(self) -> list[Concurrency]:
        return [c for c in (*self.entitlement.concurrency_at(self.now_ms), *self.route.concurrency) if self.kept(c.by)]


def make_charge(
    entitlement: Entitlement,
    route: Route,
    method: str,
    key: KeyRecord,
    now_ms: int,
    *,
    bypasses: Bypasses = NO_BYPASS,
    address: str = "",
    tenant: str = "",
    names: TenantNames | None = None,
) -> Charge:
    """The charge of a call on this route at this time. A limit that a bypass covers counts and refuses nobody; the charge then
    holds until the bypass ends. Without address and tenant it is good for every call unless it `varies`. `names` are the
    tenants that have appeared here: without them usage is not kept apart."""
    facts = _Facts(
        entitlement=entitlement, route=route, method=method, key=key, now_ms=now_ms,
        bypasses=bypasses, address=address, tenant=tenant, keyed=True, names=names,
    )  # fmt: skip
    charge = _charge(facts)
    scopes = {x.quota.per for x in charge.limits if x.quota} | {x.rate.by for x in charge.rates} | {x.concurrency.by for x in charge.slots}
    if not address and not tenant and (scopes & {Per.ADDRESS, Per.TENANT} or route.by_tenant):
        charge.varies, charge.by_address = True, Per.ADDRESS in scopes
        charge.make = lambda address, tenant: _charge(replace(facts, address=address, tenant=tenant))
    charge.varies = charge.varies or charge.cut is not None
    return charge


def make_anonymous_charge(route: Route, method: str, address: str, now_ms: int, *, bypasses: Bypasses = NO_BYPASS) -> Charge:
    """The charge of a call without an organization: the route's limits by address, in a bucket of the address. Never in the ledger."""
    nobody = Entitlement(org_id=keys.nobody(address), slug="", name="", version=0, plan="", plan_version=0, anchor_ms=0)
    facts = _Facts(
        entitlement=nobody, route=route, method=method, key=_NO_KEY, now_ms=now_ms,
        bypasses=bypasses, address=address, tenant="", keyed=False,
    )  # fmt: skip
    return _charge(facts)


def _charge(facts: _Facts) -> Charge:
    entitlement, route, costs = facts.entitlement, facts.route, facts.costs
    period_start, period_end = period_at(entitlement.anchor_ms, facts.now_ms)
    limits, rates, slots = _limits(facts), _rates(facts), _slots(facts)
    cut = _cut(facts, limits)
    if facts.length:
        limits, costs = _with_bytes(facts, limits, cut.inward if cut else ())
    met: list[str | None] = [*(x.meter for x in limits), *(x.rate.meter for x in rates), *([None] if slots else [])]
    covered = [facts.bypassed_until(meter) for meter in met]
    change = entitlement.changes_at(facts.now_ms)
    bucket, counted = keys.bucket_of(entitlement.org_id), facts.keyed and bool(limits)
    version = str(entitlement.version) if facts.keyed else ""
    from_ms = max((limit.start_ms for limit in limits), default=period_start)
    until_ms = min([*(x.end_ms for x in limits), period_end, *([change] if change else []), *(end for end in covered if end)])
    templates = _templates(facts, bucket, period_start // 1000, costs, limits)
    names = [*(x.counter for x in limits), *(x.key for x in rates), *(x.key for x in slots), *([keys.alive(bucket)] if slots else [])]
    tickets = [t.tid if counted else 0 for t in templates]
    rules = [limit.rule for limit in limits if limit.quota is not None]
    if route.closed_is_said and (rates or slots):
        rules.append(CLOSED)
    charge = Charge(
        templates=templates, bucket=bucket, org_id=entitlement.org_id, version=version, from_ms=from_ms, until_ms=until_ms,
        limits=limits,
        weighed=tuple((facts.measure(meter), cost) for meter, cost in route.charge.items() if not isinstance(cost, Fixed | Settled)),
        settles=tuple((facts.measure(meter), cost) for meter, cost in route.charge.items() if isinstance(cost, Settled)),
        rule=strictest(rules), route=route, rates=rates, slots=slots, counted=counted,
        pieces=pieces(
            bucket, names, ticket=tickets[0], org_id=entitlement.org_id, version=version, from_ms=from_ms, until_ms=until_ms,
            quotas=quotas_of(limits), more=more_of(limits, tickets[1:], rates, len(slots)), slots=len(slots),
        ), cut=cut,
    )  # fmt: skip
    if cut is not None and cut.inward:
        cut.make = lambda length: _sized(charge, _charge(replace(facts, length=length)), length)
    return charge


def _cut(facts: _Facts, limits: Sequence[Limit]) -> Cut | None:
    meters = {limit.meter for limit in limits if limit.cut is not None}
    if not meters or not facts.keyed:
        return None
    found = {facts.measure(meter): cost for meter, cost in facts.route.charge.items() if meter in meters}
    ways = {measure: cost.source for measure, cost in found.items() if isinstance(cost, Weighed)}
    return Cut(
        tuple(measure for measure, source in ways.items() if source != "response_bytes"),
        tuple(measure for measure, source in ways.items() if source != "request_bytes"),
    )


def _with_bytes(facts: _Facts, limits: Sequence[Limit], inward: Sequence[str]) -> tuple[tuple[Limit, ...], dict[str, int]]:
    """The limits and costs of a call whose request's bytes are charged with it.

    Where bytes are cut off all of them must fit. A limit that lets a call finish passes it while it has any room, as it passes one
    whose weight is not known yet: `length - 1` more than it says does just that.
    """
    length, costs, found = facts.length, facts.costs, []
    for limit in limits:
        if facts.measure(limit.meter) in inward:
            costs[limit.meter] = length
            finish = limit.enforced + length - 1 if limit.enforced is not None else None
            enforced = min((bound for bound in (finish, limit.cut) if bound is not None), default=None)
            limit = replace(limit, cost=length, enforced=enforced, after=limit.after + length - 1)
        found.append(limit)
    return tuple(found), costs


def _sized(base: Charge, sized: Charge, length: int) -> Charge:
    assert base.cut is not None
    return replace(sized, upload=Upload(base, base.cut.inward, length))


def quotas_of(limits: Sequence[Limit]) -> list[Counted]:
    """What lua/admit.lua is told of the quotas."""
    return [(limit.cost, limit.enforced, limit.expires_ms) for limit in limits if limit.main is None]


def more_of(limits: Sequence[Limit], tickets: Sequence[int], rates: Sequence[RateLimit], slots: int) -> list[Word]:
    """What it is told of all other limits, as far as that never changes; nothing where there are none."""
    subs = [limit for limit in limits if limit.main is not None]
    if not (subs or rates or slots):
        return []
    words: list[Word] = [len(subs), len(rates), slots]
    for sub in subs:
        words += [(sub.main or 0) + 1, sub.after, sub.cost, "" if sub.enforced is None else sub.enforced, sub.expires_ms]
    words += tickets
    for rate in rates:
        words += [rate.cost * rate.unit, rate.most, rate.slope, int(rate.shadow)]
    return words


def _templates(facts: _Facts, bucket: int, period_start: int, costs: dict[str, int], limits: Sequence[Limit]) -> tuple[Template, ...]:
    subs = [limit for limit in limits if limit.main is not None]
    found, dimensions = [], facts.dimensions
    for beyond in range(2 ** len(subs)):
        counters: dict[str, list[tuple[str, int]]] = {}
        for limit in limits:
            if limit.main is None or beyond >> subs.index(limit) & 1:
                counters.setdefault(facts.measure(limit.meter), []).append((limit.counter, limit.expires_ms))
        moved = {meter: tuple(names) for meter, names in counters.items()}
        charged = tuple((facts.measure(meter), units) for meter, units in costs.items() if units)
        found.append(
            Template(
                next_tid(), facts.org_id, bucket, facts.key.key_id, facts.route.id, facts.method, period_start, charged, moved, dimensions
            )
        )
    return tuple(found)


def _limits(facts: _Facts) -> tuple[Limit, ...]:
    """Every meter of the route counts in the organization's period; each quota counts in its own window and scope."""
    found: dict[str, Limit] = {}
    throttles: dict[str, tuple[str, Limit]] = {}  # by the counter of the slower quota: that of the main one, and the slower quota
    entitlement, costs, default = facts.entitlement, facts.costs, facts.route.on_store_failure

    def put(meter: str, quota: Quota | None) -> None:
        per, routed, window = (quota.per, quota.routed, quota.window) if quota else (Per.ORG, False, Window.PERIOD)
        start, end = window_at(window, entitlement.anchor_ms, facts.now_ms)
        counter = keys.counter(facts.org_id, facts.measure(meter), facts.scope(per, routed), window, start)
        bypassed = facts.bypassed_until(meter) is not None
        rule = OPEN if bypassed else (quota.on_store_failure if quota else None) or default
        enforced = None if bypassed or quota is None or quota.shadow else blocks_at(quota)
        cut = facts.cut_at(quota) if enforced is not None and quota is not None else None
        new = Limit(counter, meter, costs.get(meter, 0), enforced, quota, start, end, rule, cut=cut)
        if quota is not None and quota.mode is Mode.THROTTLE and quota.then is not None:
            slower = _slower(facts, quota, new, bypassed=bypassed)
            if slower.counter in throttles or len(throttles) < _MOST_THROTTLES:
                throttles[slower.counter] = (counter, _stricter(throttles.get(slower.counter), slower))
            else:
                new.enforced = None if bypassed or quota.shadow else quota.limit
        found[counter] = _tighter(found.get(counter), new)

    if facts.keyed:
        for meter in facts.route.charge:
            put(meter, None)
    for quota in facts.quotas():
        put(quota.meter, quota)
    places = list(found)
    for counter, slower in throttles.values():
        slower.main = places.index(counter)
    return (*found.values(), *(slower for _, slower in throttles.values()))


def _slower(facts: _Facts, quota: Quota, main: Limit, *, bypassed: bool) -> Limit:
    """What calls beyond a throttle's limit are charged to as well. Its mode is hard: this is where a throttle blocks."""
    then = quota.then
    assert then is not None
    assert quota.limit is not None
    start, end = window_at(then.window, facts.entitlement.anchor_ms, facts.now_ms)
    scope = keys.beyond(facts.scope(quota.per, quota.routed), quota.window)
    own = replace(quota, limit=then.limit, window=then.window, mode=Mode.HARD, then=None)
    return Limit(
        counter=keys.counter(facts.org_id, facts.measure(quota.meter), scope, then.window, start), meter=quota.meter, cost=main.cost,
        enforced=None if bypassed or quota.shadow else then.limit, quota=own, start_ms=start, end_ms=end, rule=main.rule,
        main=0, after=quota.limit,
    )  # fmt: skip


def _tighter(old: Limit | None, new: Limit) -> Limit:
    """Two quotas on one counter charge it once; the lower limit decides, and the stricter failure rule."""
    if old is None or old.quota is None:
        return new
    kept = old if old.enforced is not None and (new.enforced is None or new.enforced >= old.enforced) else new
    cuts = [limit.cut for limit in (old, new) if limit.cut is not None]
    return replace(kept, rule=strictest([old.rule, new.rule]), cut=min(cuts, default=None))


def _stricter(old: tuple[str, Limit] | None, new: Limit) -> Limit:
    """Of two throttles that fall to one slower quota, the one that blocks stands; of two that do, the one that falls to it earlier."""
    if old is None:
        return new
    return min(old[1], new, key=lambda limit: (limit.enforced is None, limit.after, limit.enforced or 0))


def _rates(facts: _Facts) -> tuple[RateLimit, ...]:
    """Of two rates on one key the one with the smaller burst stands."""
    found: dict[str, RateLimit] = {}
    for rate in facts.rates():
        cost = 1 if rate.meter is None else facts.costs[rate.meter]
        unit, slope = _pace(rate, cost)
        key = keys.rate(facts.org_id, rate.meter, facts.scope(rate.by, rate.routed), rate.limit, rate.per)
        new = RateLimit(key, rate, cost, unit, slope, rate.shadow or facts.bypassed_until(rate.meter) is not None)
        old = found.get(key)
        if old is None or (new.shadow, rate.depth) < (old.shadow, old.rate.depth):
            found[key] = new
    return tuple(found.values())


def _pace(rate: Rate, cost: int) -> tuple[int, int]:
    """What a unit is owed, and what is paid off in a microsecond: whole numbers, exactly `limit` a second or minute.

    Where they would be too large to be exact they are made smaller, and the rate a little slower, never faster.
    """
    micros = 1_000_000 if rate.per == "second" else 60_000_000
    shared = gcd(rate.limit, micros)
    unit, slope = micros // shared, rate.limit // shared
    largest = max(rate.depth, cost) * unit
    if largest > _MOST_DEBT:
        smaller = min(-(-largest // _MOST_DEBT), slope)
        unit, slope = -(-unit // smaller), slope // smaller
    return unit, slope


def _slots(facts: _Facts) -> tuple[SlotLimit, ...]:
    """Of two limits on one number of calls in flight the lower one stands."""
    found: dict[str, SlotLimit] = {}
    bypassed, bucket = facts.bypassed_until(None) is not None, keys.bucket_of(facts.org_id)
    for concurrency in facts.concurrency():
        key = keys.in_flight(facts.org_id, facts.scope(concurrency.by, concurrency.routed))
        new = SlotLimit(key, bucket, concurrency, concurrency.shadow or bypassed)
        old = found.get(key)
        if old is None or (new.shadow, concurrency.limit) < (old.shadow, old.concurrency.limit):
            found[key] = new
    return tuple(found.values())
