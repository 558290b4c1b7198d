"""docs/http.md names the tests that hold each rule: every name is a test, and few tests are left out."""

import re
from pathlib import Path

HERE = Path(__file__).parent
NAMED = set(re.findall(r"`(test_\w+)`", (HERE.parents[2] / "docs" / "http.md").read_text()))
TESTS = {name for file in HERE.glob("test_*.py") for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)}


def test_every_named_test_exists() -> None:
    assert set() == NAMED - TESTS


def test_most_tests_are_named() -> None:
    assert len(NAMED & TESTS) > 0.7 * len(TESTS)
