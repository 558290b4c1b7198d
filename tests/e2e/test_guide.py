"""The guide's commands in order, as one script over a fresh system: tests/e2e/guide.txt."""

import contextlib
import datetime as dt
import io
import json
import shlex
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import config
from weighbridge.cli.main import run

from .conftest import House, housed
from .guide import missing, steps, with_known

SHIPPED = [(Path(config.__file__).parent / f"{name}.yaml").read_text("utf-8") for name in ("gateway", "meters", "plans")]
SHIPPED[2] = SHIPPED[2].replace("issuer: stripe", "issuer: weighbridge")  # so that each command has something to do
PATIENCE_SECONDS = 30


class Story:
    """Types the commands, and does what happens outside."""

    def __init__(self, house: House) -> None:
        today = dt.datetime.now(dt.UTC).date()
        self._house, self.known = house, {"year": str(today.year), "soon": str(today + dt.timedelta(days=10)), "today": str(today)}

    def type(self, command: str, answers: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), io.StringIO()  # a file is written as bytes
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(shlex.split(with_known(command, self.known)), self._house.environ)
        out.seek(0)
        return code, out.read(), err.getvalue()

    def outside(self, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """`calls N` through the gateway; `card TOKEN` added at Stripe; `file NAME` of usage; `until COMMAND :: TEXT`."""
        what, _, rest = with_known(words, self.known).partition(" ")
        if what == "calls":
            call = urllib.request.Request(f"{self._house.gateway}/hello", headers={"X-API-Key": self.known["key"]})
            for _ in range(int(rest)):
                urllib.request.urlopen(call, timeout=20).close()
        elif what == "file":
            now = dt.datetime.now(dt.UTC)
            Path(rest).write_text(f'timestamp,service,quantity,metadata\n{now:%Y-%m-%dT%H:%M:%SZ},api,1000,{{"endpoint":"/api/test"}}\n')
        elif what == "card":
            self._at_stripe(f"/v1/payment_methods/{rest}/attach", customer=self.known["customer"])
        elif what == "until":
            command, _, text = rest.partition(" :: ")
            self._until(command, text, monkeypatch)
        else:
            raise ValueError(words)

    def _until(self, command: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in (printed := self.type(command, [], monkeypatch)[1]):
            assert time.monotonic() < deadline, (command, text, printed)
            time.sleep(0.2)

    def _at_stripe(self, path: str, **params: str) -> None:
        request = urllib.request.Request(
            self._house.ready["stripe"] + path, data=urllib.parse.urlencode(params).encode(),
            headers={"Authorization": "Bearer sk_test_sandbox"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=20) as response:
            json.load(response)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(tmp_path_factory, *SHIPPED, WEIGHBRIDGE_ORG="acme-corp", BILLING_MARKETPLACE_ENABLED="true") as house:
        yield house


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_guide_runs_from_its_beginning_to_its_end(fresh: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    story, faults = Story(fresh), []
    for step in steps():
        if step.outside:
            story.outside(step.command, monkeypatch)
            continue
        code, out, err = story.type(step.command, step.answers, monkeypatch)
        lost = missing(step, [*out.splitlines(), *err.splitlines()], story.known)
        if lost is not None or code != int(step.refused):
            faults.append(f"line {step.line}: {step.command} ended with {code} and without {lost!r}:\n{out}{err}")
    assert not faults, "\n\n".join(faults)
