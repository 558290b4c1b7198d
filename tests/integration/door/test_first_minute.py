"""The first minute, as CONFIG.md of the design shows it: start, three calls, Ctrl-C, start again."""

import json
import os
import re
import stat
import time

_LINES = [
    r"weighbridge \S+   config \./config: 0 faults   data \./data \(new\)",
    r"  postgres  ready  embedded, socket only",
    r"  valkey    ready  embedded",
    r"  stripe    SANDBOX, no money moves\. STRIPE_API_KEY=sk_test_… uses your account",
    r"  service   ready  sample on 127\.0\.0\.1:\d+ \(UPSTREAM=http://… puts yours here\)",
    r"  gateway   ready  http://127\.0\.0\.1:\d+   2 workers",
    r"  control   ready  http://127\.0\.0\.1:\d+   metrics http://127\.0\.0\.1:\d+/metrics",
    r"  Up in \d+ s\. Ctrl-C stops everything and keeps every count\.",
    r"",
    r"  org        plan  api",
    r"  demo-pro   pro   200,000 a period, then \$0\.0003 each",
    r"  demo-free  free  3 an hour \(demo override, so you can see a 429\)",
    r"  Keys \$PRO and \$FREE: \. data/demo\.env   \(we store only hashes\)",
    r"",
]


def _away_from_the_end_of_an_hour() -> None:
    """The demo's limit is an hour's; the calls below belong to one."""
    while time.time() % 3600 > 3570:
        time.sleep(1)


def _used(system, key: str) -> int:
    _, _, body = system.get(system.ready["control"] + "/api/v1/billing/usage", key)
    return next(use["base"]["current_usage"] for use in json.loads(body)["usage"] if use["service"] == "api")


def test_up_then_three_calls_then_ctrl_c_then_up_again(home) -> None:
    system = home.start()
    out = system.output()
    for line, pattern in zip(out, _LINES, strict=True):
        assert re.fullmatch(pattern, line), line
    env = system.data / "demo.env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert env.read_text() == f"PRO={system.key('demo-pro')}\nFREE={system.key('demo-free')}\n"
    assert {"up", "postgres", "valkey", "sample", "stripe", "gateway", "aggregator", "control", "worker"} == set(system.ready["pids"])

    _away_from_the_end_of_an_hour()
    status, headers, _ = system.call("/hello", system.key("demo-pro"))
    assert status == 200
    assert headers["RateLimit"]
    assert headers["X-Request-Id"]
    assert [system.call(f"/hello?n={n}", system.key("demo-free"))[0] for n in (1, 2, 3, 4)] == [200, 200, 200, 429]
    assert _used(system, system.key("demo-free")) == 3

    pids = [pid for value in system.ready["pids"].values() for pid in (value if isinstance(value, list) else [value])]
    assert system.interrupt() == 0
    assert system.output()[-1] == "drained 0 in flight, flushed 4 requests, journal empty, stopped"
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not (system.home / "ready.json").exists()

    keys = {org["slug"]: org["api_key"] for org in system.ready["orgs"]}
    again = system.start()
    assert again.output()[0].endswith("(found again)")
    assert {org["slug"]: org["api_key"] for org in again.ready["orgs"]} == keys
    assert _used(again, keys["demo-free"]) == 3
    assert again.interrupt() == 0
    assert again.output()[-1] == "drained 0 in flight, flushed 0 requests, journal empty, stopped"
