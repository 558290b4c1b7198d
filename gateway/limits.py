"""The limits that a call meets, each with what it stands on in the store: quotas, rates, calls in flight. Pure; made in charges.py."""

from dataclasses import dataclass

from metering.model import keys
from metering.model.quota import Concurrency, FailureRule, Mode, Quota, Rate, Window


@dataclass(slots=True, eq=False)
class Limit:
    """One counter that a call moves. `enforced` is the limit if reaching it blocks; `quota` None where nothing limits.

    `main` is set on the slower quota of a throttle: the index of its main quota, beyond whose limit `after` it is charged.
    `cut`: where bytes are cut off, if they are.
    """

    counter: str
    meter: str
    cost: int
    enforced: int | None
    quota: Quota | None
    start_ms: int
    end_ms: int
    rule: FailureRule
    main: int | None = None
    after: int = 0
    cut: int | None = None

    @property
    def expires_ms(self) -> int:
        return keys.counter_expires_ms(self.quota.window if self.quota else Window.PERIOD, self.end_ms)

    @property
    def name(self) -> str:
        """As headers, messages and logs call it."""
        if self.quota is None:
            return f"{self.meter}-period"
        return self.quota.name if self.main is None else f"{self.quota.name}-throttled"

    @property
    def shadowed(self) -> int | None:
        """The limit that would block, where this one decides as a shadow."""
        return None if self.quota is None or self.enforced is not None else blocks_at(self.quota)


@dataclass(slots=True, eq=False)
class RateLimit:
    """One rate. It is owed `unit` for each unit that passes, up to `most`, and pays off `slope` a microsecond."""

    key: str
    rate: Rate
    cost: int
    unit: int
    slope: int
    shadow: bool

    @property
    def most(self) -> int:
        return self.rate.depth * self.unit


@dataclass(slots=True, eq=False)
class SlotLimit:
    """One limit on calls in flight."""

    key: str
    bucket: int
    concurrency: Concurrency
    shadow: bool


class Told:
    """A quota as the headers tell of it: the place of what it stands at in Decision.used, its name, its limit, the end of its window."""

    __slots__ = ("end_ms", "limit", "name", "place")

    def __init__(self, place: int, name: str, limit: int, end_ms: int) -> None:
        self.place, self.name, self.limit, self.end_ms = place, name, limit, end_ms


class Policy:
    """What the rate-limit headers say of a charge (responses.py): `text` and `lines` are what never changes.

    `rates`: place, name, the rate. `around` is what stands before (with `lines`), between and after what is left of the quotas, as
    it reads in `second`.
    """

    __slots__ = ("around", "lines", "quotas", "rates", "second", "text")

    def __init__(self, text: bytes, lines: bytes, quotas: list[Told], rates: tuple[tuple[int, str, RateLimit], ...]) -> None:
        self.text, self.lines, self.quotas, self.rates = text, lines, quotas, rates
        self.second = -1
        self.around: list[bytes] = []


def blocks_at(quota: Quota) -> int | None:
    """The use at which this quota blocks, if it does. A throttle whose slower quota nobody gave blocks like any."""
    if quota.mode is Mode.HARD or (quota.mode is Mode.THROTTLE and quota.then is None):
        return quota.limit
    return quota.stop_at
