"""`weighbridge mail preview`, and what `mail test` says where nothing is configured."""

import json
from pathlib import Path

import pytest

from billing.channels.wiring import open_channel
from config.settings import read_settings
from metering.model.clock import FrozenClock
from metering.model.errors import ConfigFaulty
from weighbridge.cli.main import run


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no running system of this folder."""
    monkeypatch.chdir(tmp_path)


def test_a_preview_needs_no_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mail", "preview", "payment_failed", "--language", "de"], {"WEIGHBRIDGE_PRODUCT_NAME": "Acme"}) == 0
    assert capsys.readouterr().out.startswith("Subject: [Acme] Zahlung fehlgeschlagen - bitte handeln\n\nGuten Tag Alice,")


def test_a_preview_as_html_is_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    run(["mail", "preview", "quota_threshold", "--format", "html"], {"WEIGHBRIDGE_PUBLIC_URL": "https://acme.example"})
    page = capsys.readouterr().out
    assert page.startswith("<!DOCTYPE html>")
    assert 'href="https://acme.example/billing/usage"' in page


def test_a_preview_as_json_has_both_parts(capsys: pytest.CaptureFixture[str]) -> None:
    run(["mail", "preview", "trial_welcome", "--format", "json"], {})
    assert set(json.loads(capsys.readouterr().out)) == {"kind", "subject", "text", "html"}


def test_a_test_mail_needs_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mail", "test", "alice@example.com"], {}) == 1
    assert "SMTP_HOST is not set" in capsys.readouterr().err


def test_a_test_mail_needs_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mail", "test", "alice"], {}) == 1
    assert "'alice' cannot be a mail address" in capsys.readouterr().err


def test_a_sender_that_cannot_be_one_is_told_by_its_setting() -> None:
    settings = read_settings({"SMTP_HOST": "mx.example.com", "SMTP_FROM": "billing"})
    with pytest.raises(ConfigFaulty, match="SMTP_FROM: 'billing' is no sender"):
        open_channel(settings, FrozenClock(0))
