"""Who calls while things break: clients of several customers, at a pace, each call with a name of its own.

Every answer is kept with its times (tests/e2e/exactly.Crowd); the service counts each name it sees (exactly.Service).
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.e2e.bench import Bench, Customer
from tests.e2e.exactly import Answer, Ask, Crowd

CONNECTIONS, PAUSE_SECONDS = 32, 0.05
SEATED, SEATS = "seats", 4  # a plan whose customers ask for more calls at once than they may have in flight
_SEAT, _PATHS = "/seat/slow", ("/x", "/x", "/x", "/slow")
_SERVED = 5  # answers in turn after which a customer counts as served
_PATIENCE_SECONDS = 90.0
_names = itertools.count(1)


class Load:
    """One load, from `start` to `stop`. `customers` by the plan they have."""

    def __init__(self, bench: Bench, customers: dict[str, list[Customer]], *, connections: int = CONNECTIONS) -> None:
        self.customers, self._bench = customers, bench
        self.everybody = [customer for each in customers.values() for customer in each]
        self.crowd = Crowd(bench.house.gateway, connections, pause_seconds=PAUSE_SECONDS)
        self.begun = self.broken = self.undone = self.ended = 0.0  # the fault: injected, broken, no longer, and all well again
        self.named = Counter[str]()  # what the service saw of it, once it has stopped
        self._task: asyncio.Task[object] | None = None
        self._stopping = False

    def start(self) -> None:
        self._task = asyncio.create_task(self.crowd.make(self._asks()))

    async def stop(self) -> None:
        self._stopping = True
        assert self._task is not None
        await self._task

    def _asks(self) -> Iterator[Ask]:
        crowd = [*self.everybody, *self.customers[SEATED] * 2]
        while not self._stopping:
            customer = self._bench.rng.choice(crowd)
            yield self._ask(customer, _SEAT if customer in self.customers[SEATED] else self._bench.rng.choice(_PATHS))

    def _ask(self, customer: Customer, path: str) -> Ask:
        return Ask(path, customer.keys[0], customer.id, name=f"c{next(_names)}")

    async def seats_are_free(self) -> bool:
        """Whether as many calls at once as there are slots all pass."""
        found = [await self.crowd.make([self._ask(customer, _SEAT) for _ in range(SEATS)]) for customer in self.customers[SEATED]]
        return all(answer.status == 200 for answers in found for answer in answers)

    async def until_served(self) -> None:
        """Until every customer was served several times in turn, in calls that begin now. Raises AssertionError with who is not."""
        since = time.monotonic()
        for customer in self.everybody:
            while not self._served(customer, since):
                last = Counter(a.status for a in self.of(customer)[-50:])
                assert time.monotonic() < since + _PATIENCE_SECONDS, f"{customer.org.slug} is not served again, it gets {last}"
                assert self._task is None or not self._task.done(), "nobody calls any more"
                await asyncio.sleep(0.05)

    def _served(self, customer: Customer, since: float) -> bool:
        last = [a.status for a in self.of(customer, lambda a: a.begun > since)][-_SERVED:]
        passed, seated = last.count(200), customer in self.customers[SEATED]
        return len(last) == _SERVED and (passed > 0 and passed + last.count(429) == _SERVED if seated else passed == _SERVED)

    # --- what was seen ------------------------------------------------------------------------------------------------
    def of(self, customer: Customer, such: Callable[[Answer], bool] = lambda _: True) -> list[Answer]:
        return [a for a in self.crowd.answers if a.ask.whose == customer.id and such(a)]

    def of_plan(self, plan: str) -> list[Answer]:
        return [answer for customer in self.customers[plan] for answer in self.of(customer)]

    def meanwhile(self) -> list[Answer]:
        """Of calls that were under way while the fault lasted, or until all was well again."""
        return [a for a in self.crowd.answers if a.ended > self.begun and a.begun < self.ended]

    def whilst_broken(self, plan: str, after_seconds: float) -> list[Answer]:
        """Of calls that began so long after all was broken, and ended before it was undone."""
        return [a for a in self.of_plan(plan) if a.begun > self.broken + after_seconds and a.ended < self.undone]

    def failed(self) -> list[Answer]:
        """Of calls that reached the service, and whose connection broke before they were answered."""
        return [a for a in self.crowd.answers if a.status == 0 and self.named[a.ask.name]]

    def most_seated(self) -> int:
        """The most calls in flight that the service saw of a customer with slots."""
        return max(self._bench.service.most[customer.id] for customer in self.customers[SEATED])

    def longest_wait_ms(self) -> float:
        """Of calls that the service answers at once."""
        return max((1000 * (a.ended - a.begun) for a in self.meanwhile() if a.ask.path == "/x"), default=0.0)
