"""Each script's contract, on its top, against the caller that names its keys."""

import re
from typing import Any

import pytest

from aggregator import scripts

COMMANDS = {
    "drain": scripts.drain(3),
    "delete": scripts.delete(3, 1, 2, {"w1": 7}),
    "close": scripts.close(3, 1),
    "restore": scripts.restore(3, epoch=1, run_id="r", generation=2, marks={"w1": 7}, forget=["a"], counters={"b": (1, 2)}),
    "open": scripts.open_bucket(3, "1 r", ["w1"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_gets_the_keys_and_arguments_its_header_names(name: str) -> None:
    _, body, count, *rest = COMMANDS[name]
    header = body.decode().split("]]")[0]
    assert header.startswith(f"--[[ {name}: ")
    assert "RETURNS" in header
    assert "WHY LUA" in header
    assert max(int(n) for n in re.findall(r"KEYS\[(\d+)", header)) == min(count, 7)
    named = [int(n) for n in re.findall(r"ARGV\[(\d+)\]", header)]
    assert len(rest) - count >= max(named, default=0)


@pytest.mark.parametrize("name", COMMANDS)
def test_all_keys_of_a_script_share_a_slot(name: str) -> None:
    _, _, count, *rest = COMMANDS[name]
    own = [key for key in rest[:count] if key.startswith("wb:")]
    assert {re.search(r"\{(\d+)\}", key)[1] for key in own} == {"3"}  # type: ignore[index]


async def test_a_script_with_its_real_arguments_runs(house: Any) -> None:
    from aggregator.flush import run

    run_id = (await house.tag(3)).split(" ")[1]
    restore = scripts.restore(
        3, epoch=2, run_id=run_id, generation=9, marks={"w1": 7}, forget=["wb:{3}:q:x"], counters={"wb:{3}:q:y": (5, 4_000_000_000_000)}
    )
    replies = await run(
        house.redis,
        [scripts.close(3, 2), restore, scripts.open_bucket(3, f"2 {run_id}", ["w1"]), scripts.open_bucket(3, f"2 {run_id}", [])],
    )
    assert replies == [1, 1, 0, 1]
    assert await house.redis.get("wb:{3}:q:y") == b"5"
