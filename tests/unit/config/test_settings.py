"""Settings: defaults, `.env`, names that are none of ours, contradictions, and no money moved by mistake."""

from decimal import Decimal
from pathlib import Path

import pytest

from config.settings import SETTINGS, Settings, SettingsFaulty, read_settings

LIVE, TEST = "sk_live_x", "sk_test_x"


def refused(environ: dict[str, str], text: str = "") -> str:
    with pytest.raises(SettingsFaulty) as found:
        read_settings(environ, text)
    return str(found.value)


def test_an_empty_environment_gives_the_defaults() -> None:
    found = read_settings({})
    assert (found.env, found.billing_currency, found.billing_default_plan, found.billing_trial_days) == ("dev", "usd", "free", 14)
    assert (found.billing_trial_plans, found.billing_supported_currencies) == (("pro", "enterprise"), ("usd",))
    assert (found.database_url, found.redis_url, found.stripe_api_key, found.uses_sandbox) == (None, None, None, True)
    assert (found.port, found.control_port, found.metrics_port, found.workers) == (8080, 8081, 9090, 2)
    assert (found.flush_interval_seconds, found.report_interval_seconds, found.store_deadline_ms) == (60, 3600, 50)


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "sandbox"),
        ({"STRIPE_API_KEY": TEST}, "test"),
        ({"STRIPE_API_KEY": "rk_test_x"}, "test"),
        ({"STRIPE_API_KEY": LIVE, "ENV": "prod"}, "live"),
        ({"STRIPE_API_KEY": "rk_live_x", "ENV": "prod"}, "live"),
        ({"STRIPE_API_KEY": TEST, "STRIPE_API_BASE": "https://api.stripe.com"}, "test"),
        ({"STRIPE_API_KEY": TEST, "STRIPE_API_BASE": "http://127.0.0.1:9999"}, "sandbox"),  # as `up` points its processes at it
    ],
)
def test_key_and_address_say_which_side_of_stripe_is_meant(environ: dict[str, str], mode: str) -> None:
    assert read_settings(environ).stripe_mode == mode


def test_the_guides_env_file_is_read_with_its_comments() -> None:
    text = """
# Stripe Configuration
STRIPE_API_KEY=sk_test_PLACEHOLDER           # Secret key from Stripe
STRIPE_WEBHOOK_SECRET=whsec_one, whsec_two
STRIPE_PUBLISHABLE_KEY=pk_test_xxxxxxxxxxxx   # Public key for client-side
export BILLING_ENABLED=true
BILLING_TAX_RATE=0.085  # 8.5%
BILLING_TAX_REGIONS=US-CA,US-NY,US-TX  # Nexus states
WEIGHBRIDGE_PRODUCT_NAME="Acme # One"
WEIGHBRIDGE_SUPPORT_ADDRESS='help@example.com'
BILLING_TRIAL_DAYS=
"""
    found = read_settings({}, text)
    assert (found.stripe_api_key, found.stripe_webhook_secrets) == ("sk_test_PLACEHOLDER", ("whsec_one", "whsec_two"))
    assert (found.billing_tax_rate, found.billing_tax_regions) == (Decimal("0.085"), ("US-CA", "US-NY", "US-TX"))
    assert (found.product_name, found.support_address, found.billing_trial_days) == ("Acme # One", "help@example.com", 14)
    assert found.warnings == ()


def test_the_environment_stands_above_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BILLING_CURRENCY=eur\nWEIGHBRIDGE_PORT=9001\n")
    found = Settings.load({"BILLING_CURRENCY": "gbp"}, tmp_path / ".env")
    assert (found.billing_currency, found.port) == ("gbp", 9001)
    assert Settings.load({}, tmp_path / "absent").billing_currency == "usd"


@pytest.mark.parametrize("name", ["BILLING_CURENCY", "STRIPE_WEBHOOK_SECRETS", "WEIGHBRIDGE_WORKER"])
def test_a_name_that_is_nearly_ours_is_reported_with_the_right_one(name: str) -> None:
    (warning,) = read_settings({name: "5", "PATH": "/bin"}).warnings
    assert (name in warning, "did you mean" in warning) == (True, True)


def test_the_other_name_of_the_currency_is_taken_unless_the_two_differ() -> None:
    assert read_settings({"BILLING_DEFAULT_CURRENCY": "EUR"}).billing_currency == "eur"
    assert read_settings({"BILLING_DEFAULT_CURRENCY": "eur", "BILLING_CURRENCY": "eur"}).billing_currency == "eur"
    assert "keep one" in refused({"BILLING_DEFAULT_CURRENCY": "eur", "BILLING_CURRENCY": "usd"})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"STRIPE_TAX_ENABLED": "true", "BILLING_TAX_RATE": "0.085"}, "due twice"),
        ({"STRIPE_TAX_ENABLED": "true", "BILLING_TAX_REGIONS": "US-CA"}, "regions"),
        ({"BILLING_MULTI_CURRENCY": "true", "BILLING_SUPPORTED_CURRENCIES": "eur,gbp"}, "lacks BILLING_CURRENCY"),
        ({"BILLING_SUPPORTED_CURRENCIES": "usd,eur"}, "BILLING_MULTI_CURRENCY is false"),
        ({"WEIGHBRIDGE_PORT": "8081"}, "each needs its own"),
        ({"ENV": "prod"}, "refuses the Stripe sandbox"),
        ({"ENV": "production", "STRIPE_API_KEY": TEST}, "refuses a test key"),
        ({"ENV": "prod", "STRIPE_API_KEY": LIVE, "STRIPE_API_BASE": "http://127.0.0.1:12111"}, "refuses a stand-in"),
        ({"STRIPE_API_KEY": LIVE}, "refuses a live Stripe key"),
        ({"ENV": "staging", "STRIPE_API_KEY": "rk_live_x"}, "refuses a live Stripe key"),
        ({"STRIPE_API_KEY": "pk_test_x"}, "publishable"),
        ({"STRIPE_API_KEY": "whsec_x"}, "STRIPE_WEBHOOK_SECRET"),
        ({"STRIPE_API_KEY": "abc"}, "begins with sk_test_"),
    ],
)
def test_a_contradiction_is_refused(environ: dict[str, str], said: str) -> None:
    assert said in refused(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"ENV": "prod", "STRIPE_API_KEY": LIVE},
        {"ENV": "prod", "BILLING_ENABLED": "false"},
        {"STRIPE_API_KEY": TEST},
        {"STRIPE_API_KEY": LIVE, "WEIGHBRIDGE_FORCE_LIVE": "true"},
        {"STRIPE_API_KEY": "sandbox", "STRIPE_API_BASE": "http://127.0.0.1:12111"},
        {"BILLING_MULTI_CURRENCY": "true", "BILLING_SUPPORTED_CURRENCIES": "usd, EUR"},
        {"WEIGHBRIDGE_PORT": "0", "WEIGHBRIDGE_CONTROL_PORT": "0", "WEIGHBRIDGE_METRICS_PORT": "0"},
    ],
)
def test_what_agrees_is_taken(environ: dict[str, str]) -> None:
    read_settings(environ)


def test_a_process_that_never_speaks_to_stripe_needs_no_key_in_production() -> None:
    assert Settings.load({"ENV": "prod"}, bills=False).env == "prod"


def test_every_faulty_value_is_named_at_once() -> None:
    said = refused(
        {
            "WEIGHBRIDGE_PORT": "99999",
            "BILLING_ENABLED": "perhaps",
            "DATABASE_URL": "mysql://x:secret@h",
            "WEIGHBRIDGE_TRUSTED_PROXIES": "10.0.0.300",
        },
        "what is this\nA='open\n",
    )
    for name in ("WEIGHBRIDGE_PORT", "BILLING_ENABLED", "DATABASE_URL", "WEIGHBRIDGE_TRUSTED_PROXIES", ".env:1", ".env:2"):
        assert name in said
    assert "secret" not in said


def test_secrets_do_not_show() -> None:
    secrets = {
        "STRIPE_API_KEY": TEST,
        "DATABASE_URL": "postgres://u:pass@h/d",
        "WEIGHBRIDGE_SIGNING_SECRET": "sig",
        "STRIPE_WEBHOOK_SECRET": "whsec_1",
    }
    shown = repr(read_settings(secrets))
    assert not [value for value in secrets.values() if value in shown]


def test_every_setting_says_what_it_is() -> None:
    assert all(setting.metadata["doc"].endswith(".") or ":" in setting.metadata["doc"] for setting in SETTINGS.values())


MAIL_FAULTS = [
    ({"SMTP_HOST": "mx.example.com"}, "mails need a sender"),
    ({"SMTP_HOST": "mx.example.com", "SMTP_FROM": "a@b.example", "SMTP_USERNAME": "u"}, "a login needs SMTP_PASSWORD too"),
    (
        {"SMTP_HOST": "mx.example.com", "SMTP_FROM": "a@b.example", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "p", "SMTP_TLS": "none"},
        "for everybody to read",
    ),
    ({"SMTP_HOST": "mx.example.com", "SMTP_FROM": "a@b.example", "SMTP_TLS": "ssl"}, "write starttls, tls or none"),
]


@pytest.mark.parametrize(("environ", "said"), MAIL_FAULTS)
def test_mail_that_could_not_go_out_or_not_safely_is_refused_at_the_start(environ: dict[str, str], said: str) -> None:
    assert said in refused(environ)


def test_a_password_of_mail_stays_in_its_file_and_out_of_sight(tmp_path: Path) -> None:
    (tmp_path / "smtp").write_text("geheim\n")
    found = read_settings(
        {"SMTP_HOST": "mx.example.com", "SMTP_FROM": "a@b.example", "SMTP_USERNAME": "u", "SMTP_PASSWORD_FILE": str(tmp_path / "smtp")}
    )
    assert found.smtp_password == "geheim"
    assert "geheim" not in repr(found)
