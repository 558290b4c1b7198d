"""The short form of the chaos run: its cheap faults, one after the other, against one house under load."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from .fault import Fault
from .faults import families
from .round import Outcome, injected
from .world import world

QUICK = [fault for faults in families().values() for fault in faults if fault.quick]


@pytest.fixture(scope="module")
def inject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Fault], Outcome]]:
    with asyncio.Runner() as runner:
        house = world(tmp_path_factory.mktemp("chaos"), seed=1)
        running = runner.run(house.__aenter__())
        yield lambda fault: runner.run(injected(running, fault, timed=False))
        runner.run(house.__aexit__(None, None, None))


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: type(fault).__name__)
def test_nothing_is_lost_and_nothing_doubled_by_the_fault(inject: Callable[[Fault], Outcome], fault: Fault) -> None:
    outcome = inject(fault)
    assert not outcome.broken, outcome
