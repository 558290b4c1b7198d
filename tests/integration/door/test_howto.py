"""The README's way from nothing to a paying customer, as it is written there: each of its commands, run in a shell, one after another."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[3] / "README.md").read_text()
SECTION = README.split("## Your first paying customer")[1].split("The key from above")[0]
COMMANDS = [line[2:].split("   ")[0] for line in SECTION.splitlines() if line.startswith("$ ")]
_ADDRESS = re.compile(r"http://\S+/_sandbox/checkout/\S+")
_NUMBER = re.compile(r"[A-Z0-9]{8}-\d{4}")


class Reader:
    """Who types what stands there, with the page and the number that they were told in place of the README's."""

    def __init__(self, system) -> None:
        self._system, self.page, self.number = system, "", ""

    def types(self, command: str) -> str:
        own = command.replace(".venv/bin/weighbridge", f"{shlex.quote(sys.executable)} -m weighbridge")
        own = _NUMBER.sub(self.number, _ADDRESS.sub(self.page, own)) if self.page else own
        done = subprocess.run(
            ["sh", "-c", own], cwd=self._system.home, env=self._system.environ, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, (command, done.stderr)
        self.page = next(iter(_ADDRESS.findall(done.stdout)), self.page)
        self.number = next(iter(_NUMBER.findall(done.stdout)), self.number)
        return done.stdout


@pytest.mark.long
def test_a_stranger_comes_to_a_paying_customer_by_the_readme_alone(system) -> None:
    key = system.cli_json("org", "create", "Acme Corp", "--plan", "free")["api_key"]  # the section above
    reader = Reader(system)
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        said = reader.types(command)
        if "invoice list" in command:  # within a few seconds
            system.until(lambda command=command: " paid " in reader.types(command), "the invoice is paid")
        elif "upgrade pro" in command:
            assert "New monthly charge: $49.00" in said
    [pdf] = system.home.glob("invoice_*.pdf")
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert "q=200000;w=" in system.call("/hello", key)[1]["RateLimit-Policy"]
