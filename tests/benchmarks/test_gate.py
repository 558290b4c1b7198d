"""The gate: what is counted runs without callgrind too, and what grew is found."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks import gate
from tests.benchmarks.bench import organizations
from tests.benchmarks.gate import CASES
from tests.benchmarks.hotpath import CALLS_A_ROUND


@pytest.mark.parametrize("name", gate.runnable(list(CASES)))
def test_the_hot_path_answers_every_call_of_each_case(name: str, redis: str, tmp_path: Path) -> None:
    """It ends with a sentence and not with 0 where an answer is missing, or is none that was asked for."""
    gate.prepare(tmp_path, name, organizations(max(CALLS_A_ROUND, CASES[name].orgs)), redis)
    argv = gate.command(tmp_path, name, rounds=2, redis_url=redis)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "COUNTING": ""}, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_hot_path_that_grew_by_more_than_three_percent_fails_the_gate(tmp_path: Path) -> None:
    accepted = tmp_path / "gate.json"
    accepted.write_text(json.dumps({"built_with": gate.built_with(), "instructions": {"metered": 1000, "unmetered": 1000}}))
    verdicts = gate.judged({"metered": 1031, "unmetered": 1030}, accepted)
    assert [verdict.grew for verdict in verdicts] == [True, False]


def test_numbers_of_another_python_are_not_compared_with(tmp_path: Path) -> None:
    accepted = tmp_path / "gate.json"
    accepted.write_text(json.dumps({"built_with": {"python": "another"}, "instructions": {"metered": 1}}))
    assert gate.judged({"metered": 1031}, accepted)[0].sentence == "nothing to compare with"


def test_accepting_one_number_keeps_the_others(tmp_path: Path) -> None:
    accepted = tmp_path / "gate.json"
    gate.accept({"metered": 1000, "unmetered": 500}, accepted)
    gate.accept({"metered": 900}, accepted)
    assert gate.numbers_of(accepted) == {"metered": 900, "unmetered": 500}
