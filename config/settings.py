"""Settings: the environment and `.env`, read once, checked together. The environment stands above the file.

The only module that knows the names of environment variables. SETTINGS is the list, for the code and for the docs.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from metering.model.errors import ConfigFaulty

from .environment import (
    Network,
    currencies,
    currency,
    dotenv,
    environment,
    http,
    listed,
    networks,
    rate,
    stripe_key,
    truth,
    url,
    whole,
    word,
)
from .secret_files import SUFFIX, SecretUnreadable, secret_of

STRIPE_API = "https://api.stripe.com"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_LIVE_KEY = re.compile(r"(sk|rk)_live_")


class SettingsFaulty(ConfigFaulty):
    """The environment or .env has faults; nothing was started."""

    code = "settings_faulty"


def _a(name: str, doc: str, read: Callable[[str], Any] = str, default: Any = None, *, secret: bool = False) -> Any:
    """A field that is read from the variable `name`."""
    return field(default=default, repr=not secret, metadata={"name": name, "doc": doc, "read": read, "secret": secret})


_PORT = whole(0, 65_535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says. `warnings` are names that look like ours and are not."""

    env: str = _a(
        "ENV", "dev, test, staging or prod. prod refuses the sandbox and test keys; the others refuse live keys.", environment, "dev"
    )
    database_url: str | None = _a(
        "DATABASE_URL", "Postgres 15 or later. Unset: `up` embeds one.", url("postgres", "postgresql"), secret=True
    )
    redis_url: str | None = _a(
        "REDIS_URL", "Redis 7.0 or later, or Valkey. Unset: `up` embeds one.", url("redis", "rediss", "unix", "valkey"), secret=True
    )

    stripe_api_key: str | None = _a("STRIPE_API_KEY", "The secret key. Unset: the sandbox.", stripe_key, secret=True)
    stripe_webhook_secrets: tuple[str, ...] = _a("STRIPE_WEBHOOK_SECRET", "Several, while one is replaced.", listed, (), secret=True)
    stripe_publishable_key: str | None = _a("STRIPE_PUBLISHABLE_KEY", "Never required.")
    stripe_api_base: str | None = _a("STRIPE_API_BASE", "Where Stripe is. Set by `up` to point at the sandbox.", http)
    stripe_tax_enabled: bool = _a("STRIPE_TAX_ENABLED", "Stripe computes taxes.", truth, default=False)
    stripe_tax_inclusive: bool = _a("STRIPE_TAX_INCLUSIVE", "Prices include the tax.", truth, default=False)

    billing_enabled: bool = _a("BILLING_ENABLED", "false: meter and limit, bill nothing.", truth, default=True)
    billing_currency: str = _a("BILLING_CURRENCY", "BILLING_DEFAULT_CURRENCY is another name for it.", currency, "usd")
    billing_default_plan: str = _a(
        "BILLING_DEFAULT_PLAN", "The plan of new organizations, and of those whose subscription ended.", str, "free"
    )
    billing_trial_days: int = _a("BILLING_TRIAL_DAYS", "Length of a trial.", whole(0, 730), 14)
    billing_trial_plans: tuple[str, ...] = _a("BILLING_TRIAL_PLANS", "Plans that can be tried.", listed, ("pro", "enterprise"))
    billing_trial_requires_payment: bool = _a("BILLING_TRIAL_REQUIRES_PAYMENT", "A trial needs a payment method.", truth, default=True)
    billing_trial_notify_days_before: int = _a("BILLING_TRIAL_NOTIFY_DAYS_BEFORE", "Days before a trial's end.", whole(0, 365), 3)
    billing_tax_rate: Decimal = _a("BILLING_TAX_RATE", "A share: 0.085 is 8.5 %. Not beside Stripe Tax.", rate, Decimal(0))  # noqa: RUF009  the default is immutable
    billing_tax_regions: tuple[str, ...] = _a("BILLING_TAX_REGIONS", "Where it is due: US-CA,US-NY. Empty: everywhere.", listed, ())
    billing_multi_currency: bool = _a("BILLING_MULTI_CURRENCY", "Plans are sold in several currencies.", truth, default=False)
    billing_supported_currencies: tuple[str, ...] = _a(
        "BILLING_SUPPORTED_CURRENCIES", "Which. Default: BILLING_CURRENCY alone.", currencies, ()
    )
    billing_marketplace_enabled: bool = _a("BILLING_MARKETPLACE_ENABLED", "Customers of a cloud marketplace.", truth, default=False)
    billing_marketplace_provider: str = _a("BILLING_MARKETPLACE_PROVIDER", "aws, azure or gcp.", word("aws", "azure", "gcp"), "aws")

    config_dir: Path = _a("WEIGHBRIDGE_CONFIG", "Folder of gateway.yaml, meters.yaml, plans.yaml.", Path, Path("config"))  # noqa: RUF009  the default is immutable
    data_dir: Path = _a("WEIGHBRIDGE_DATA_DIR", "Journals, embedded servers, the last good configuration.", Path, Path(".weighbridge"))  # noqa: RUF009  the default is immutable
    host: str = _a("WEIGHBRIDGE_HOST", "Address that the gateway listens on.", str, "127.0.0.1")
    control_host: str = _a(
        "WEIGHBRIDGE_CONTROL_HOST", "Address that control listens on: this machine alone, unless told.", str, "127.0.0.1"
    )
    metrics_host: str = _a(
        "WEIGHBRIDGE_METRICS_HOST", "Address of the metrics page and the probes: this machine alone, unless told.", str, "127.0.0.1"
    )
    port: int = _a("WEIGHBRIDGE_PORT", "The gateway's port; 0 takes a free one.", _PORT, 8080)
    control_port: int = _a("WEIGHBRIDGE_CONTROL_PORT", "The control server's port.", _PORT, 8081)
    metrics_port: int = _a("WEIGHBRIDGE_METRICS_PORT", "The metrics page's port.", _PORT, 9090)
    aggregator_port: int | None = _a("WEIGHBRIDGE_AGGREGATOR_PORT", "The aggregator's own metrics page and /healthz. Unset: none.", _PORT)
    log_level: str = _a("WEIGHBRIDGE_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR.", str, "INFO")
    compiled: str = _a(
        "WEIGHBRIDGE_COMPILED", "auto: the hot path runs compiled where it is; no; yes, or not at all.", word("auto", "yes", "no"), "auto"
    )
    workers: int = _a("WEIGHBRIDGE_WORKERS", "Gateway processes on one port.", whole(1, 256), 2)
    upstream: str | None = _a("UPSTREAM", "Your service, in place of the default upstream's targets. Unset: the sample.", http)
    trusted_proxies: tuple[Network, ...] = _a(
        "WEIGHBRIDGE_TRUSTED_PROXIES", "Networks whose X-Forwarded-* are believed: 10.0.0.0/8.", networks, ()
    )
    drain_seconds: int = _a("WEIGHBRIDGE_DRAIN_SECONDS", "How long a stopping gateway waits for calls under way.", whole(0, 3_600), 30)
    store_deadline_ms: int = _a("WEIGHBRIDGE_STORE_DEADLINE_MS", "Longest wait for Redis; then a rule decides.", whole(1, 60_000), 50)
    remembered_organizations: int = _a(
        "WEIGHBRIDGE_REMEMBERED_ORGANIZATIONS",
        "Organizations, and as many keys, that each worker keeps in memory, some 6 KB each; others are read again.",
        whole(100, 10_000_000),
        25_000,
    )
    store_rows: int = _a(
        "WEIGHBRIDGE_STORE_ROWS",
        "Rows of usage, some 200 bytes each, that Redis takes while nobody brings them to Postgres; more wait in the journals.",
        whole(10_000, 1_000_000_000),
        4_000_000,
    )
    flush_interval_seconds: int = _a("WEIGHBRIDGE_FLUSH_INTERVAL", "Seconds from Redis to Postgres.", whole(1, 3_600), 60)
    report_interval_seconds: int = _a("WEIGHBRIDGE_REPORT_INTERVAL", "Seconds between overage reports to Stripe.", whole(1, 86_400), 3_600)
    invoice_delay_seconds: int = _a(
        "WEIGHBRIDGE_INVOICE_DELAY",
        "Seconds from a period's end to its invoice, with issuer weighbridge: usage arrives behind it.",
        whole(0, 604_800),
        3_600,
    )
    retention_days: int = _a("WEIGHBRIDGE_RETENTION_DAYS", "Raw usage is kept so long, or longer.", whole(100, 36_500), 100)
    signing_secret: str | None = _a(
        "WEIGHBRIDGE_SIGNING_SECRET", "Signs X-Org-Id and friends, so that the service can refuse who went past us.", secret=True
    )
    control_url: str | None = _a(
        "WEIGHBRIDGE_CONTROL_URL", "Where the command line finds control, with a token. Unset: the one that runs here.", http
    )
    token: str | None = _a("WEIGHBRIDGE_TOKEN", "The command line works through control with it, in place of the database.", secret=True)
    org: str | None = _a("WEIGHBRIDGE_ORG", "The organization that commands are about: its id or slug. --org comes before it.")

    product_name: str = _a("WEIGHBRIDGE_PRODUCT_NAME", "What customers know the service as.", str, "Weighbridge")
    public_url: str | None = _a("WEIGHBRIDGE_PUBLIC_URL", "Where customers reach it.", http)
    upgrade_url: str | None = _a("WEIGHBRIDGE_UPGRADE_URL", "In a 429: where to upgrade. Default: PUBLIC_URL/billing/upgrade.", http)
    support_address: str | None = _a("WEIGHBRIDGE_SUPPORT_ADDRESS", "A mail address for customers.")
    smtp_host: str | None = _a("SMTP_HOST", "The mail server. Unset: no mail goes out, docs/mail.md.")
    smtp_port: int | None = _a("SMTP_PORT", "Its port. Default: 587, with SMTP_TLS=tls 465.", whole(1, 65_535))
    smtp_username: str | None = _a("SMTP_USERNAME", "For a server that wants a login.")
    smtp_password: str | None = _a("SMTP_PASSWORD", "Its password.", secret=True)
    smtp_tls: str = _a(
        "SMTP_TLS",
        "starttls, tls (from the first byte) or none (this machine or a network of your own).",
        word("starttls", "tls", "none"),
        "starttls",
    )
    smtp_from: str | None = _a("SMTP_FROM", "The sender: `Example <billing@example.com>`. Default: WEIGHBRIDGE_SUPPORT_ADDRESS.")
    win_back_code: str | None = _a(
        "WEIGHBRIDGE_WIN_BACK_CODE", "A coupon's code that offers to former customers name. Unset: none is named."
    )
    hooks_inside: bool = _a(
        "WEIGHBRIDGE_HOOKS_INSIDE", "Outgoing webhooks may go to http:// and to private addresses.", truth, default=False
    )
    force_live: bool = _a("WEIGHBRIDGE_FORCE_LIVE", "Lets ENV=dev use a live Stripe key: real money moves.", truth, default=False)

    warnings: tuple[str, ...] = ()

    @property
    def uses_sandbox(self) -> bool:
        """True where no Stripe key is set: the stand-in answers, no money moves."""
        return self.stripe_api_key is None

    @property
    def stripe_mode(self) -> str:
        """sandbox, test or live: the side of Stripe that a process under these settings speaks to, if it does."""
        if self.stripe_api_key is None or self.stripe_api_base not in (None, STRIPE_API):
            return "sandbox"
        return "live" if _LIVE_KEY.match(self.stripe_api_key) else "test"

    @staticmethod
    def load(environ: Mapping[str, str], env_file: Path | None = None, *, bills: bool = True) -> "Settings":
        """Raises SettingsFaulty with every fault. `bills` False is for a process that never speaks to Stripe."""
        text = _text_of(env_file) if env_file is not None and env_file.is_file() else ""
        return read_settings(environ, text, env_file.name if env_file else ".env", bills=bills)


SETTINGS: dict[str, Any] = {f.metadata["name"]: f for f in fields(Settings) if f.metadata}
"""Variable → field, with doc, reader and default: the list that the reference is made from."""

_ALIASES = {"BILLING_DEFAULT_CURRENCY": "BILLING_CURRENCY"}


def default_of(name: str) -> Any:
    """The default of a variable, for the reference."""
    default = SETTINGS[name].default
    return None if default is MISSING else default


def _text_of(env_file: Path) -> str:
    try:
        return env_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFaulty(f"{env_file} cannot be read: {error}") from error


def read_settings(environ: Mapping[str, str], env_text: str = "", env_name: str = ".env", *, bills: bool = True) -> Settings:
    """Settings from the environment and the text of `.env`; no file is read but those that NAME_FILE names."""
    faults: list[str] = []
    written = {**dotenv(env_text, env_name, faults), **environ}
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        text = _given(written, name, setting, faults)
        if text:
            try:
                values[setting.name] = setting.metadata["read"](text)
            except ValueError as error:
                said = "its value" if setting.metadata["secret"] else text
                faults.append(f"{name}: {said} will not do: {error}")
    _aliased(written, values, faults)
    if faults:
        raise _refused(faults)
    settings = Settings(**_completed(values), warnings=_unknown(written))
    if faults := _contradictions(settings, bills=bills):
        raise _refused(faults)
    return settings


def _given(written: Mapping[str, str], name: str, setting: Any, faults: list[str]) -> str:
    """What stands for a setting; a secret may stand in a file."""
    if not setting.metadata["secret"]:
        return written.get(name, "").strip()
    try:
        return secret_of(written, name) or ""
    except SecretUnreadable as error:
        faults.append(str(error))
        return ""


def _refused(faults: list[str]) -> SettingsFaulty:
    return SettingsFaulty("the settings have faults:\n" + "\n".join(f"  {fault}" for fault in faults), faults=faults)


def _aliased(written: Mapping[str, str], values: dict[str, Any], faults: list[str]) -> None:
    for alias, name in _ALIASES.items():
        text = written.get(alias, "").strip()
        if not text:
            continue
        setting = SETTINGS[name]
        try:
            value = setting.metadata["read"](text)
        except ValueError as error:
            faults.append(f"{alias}: {text} will not do: {error}")
            continue
        if values.setdefault(setting.name, value) != value:
            faults.append(f"{alias} is {text}, {name} is {written[name].strip()}: they are two names for one setting; keep one")


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """Defaults that depend on other settings."""
    currency = values.get("billing_currency", "usd")
    values.setdefault("billing_supported_currencies", (currency,))
    if values.get("public_url"):
        values.setdefault("upgrade_url", values["public_url"] + "/billing/upgrade")
    return values


def _unknown(written: Mapping[str, str]) -> tuple[str, ...]:
    known = {*SETTINGS, *_ALIASES, *(name + SUFFIX for name, setting in SETTINGS.items() if setting.metadata["secret"])}
    found = []
    for name in sorted(written):
        if name.startswith(("BILLING_", "STRIPE_", "WEIGHBRIDGE_")) and name not in known:
            near = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
            found.append(f"{name} is no setting of Weighbridge" + (f"; did you mean {near[0]}?" if near else "; it has no effect"))
    return tuple(found)


def _contradictions(s: Settings, *, bills: bool) -> list[str]:
    found = []
    if s.stripe_tax_enabled and s.billing_tax_rate:
        found.append("STRIPE_TAX_ENABLED and BILLING_TAX_RATE: tax would be due twice; keep one")
    if s.stripe_tax_enabled and s.billing_tax_regions:
        found.append("STRIPE_TAX_ENABLED and BILLING_TAX_REGIONS: Stripe Tax knows its regions itself; keep one")
    if s.billing_currency not in s.billing_supported_currencies:
        supported = ", ".join(s.billing_supported_currencies)
        found.append(f"BILLING_SUPPORTED_CURRENCIES ({supported}) lacks BILLING_CURRENCY ({s.billing_currency}); add it")
    elif not s.billing_multi_currency and len(s.billing_supported_currencies) > 1:
        found.append("BILLING_SUPPORTED_CURRENCIES names several, but BILLING_MULTI_CURRENCY is false; set it to true, or name one")
    ports = [port for port in (s.port, s.control_port, s.metrics_port) if port]
    if len(ports) != len(set(ports)):
        found.append("WEIGHBRIDGE_PORT, WEIGHBRIDGE_CONTROL_PORT and WEIGHBRIDGE_METRICS_PORT: each needs its own")
    return found + _mail_faults(s) + _stripe_faults(s, bills=bills)


def _mail_faults(s: Settings) -> list[str]:
    found = []
    if s.smtp_host and not (s.smtp_from or s.support_address):
        found.append("SMTP_HOST: mails need a sender; set SMTP_FROM or WEIGHBRIDGE_SUPPORT_ADDRESS")
    if s.smtp_username and s.smtp_password is None:
        found.append("SMTP_USERNAME: a login needs SMTP_PASSWORD too")
    elif s.smtp_username and s.smtp_tls == "none" and s.smtp_host not in _THIS_MACHINE:
        found.append("SMTP_TLS=none would send SMTP_PASSWORD for everybody to read; set it to starttls or tls")
    return found


def _stripe_faults(s: Settings, *, bills: bool) -> list[str]:
    """Money moves in prod and nowhere else."""
    key = s.stripe_api_key or ""
    at_stripe = s.stripe_api_base in (None, STRIPE_API)
    if at_stripe and key and not re.match(r"(sk|rk)_(test|live)_", key):
        return ["STRIPE_API_KEY: a secret key begins with sk_test_, sk_live_, rk_test_ or rk_live_"]
    live = _LIVE_KEY.match(key) is not None
    if s.env == "prod":
        if not key and bills and s.billing_enabled:
            return ["ENV=prod refuses the Stripe sandbox: set STRIPE_API_KEY to a live key, or BILLING_ENABLED=false to bill nothing"]
        if not at_stripe:
            return [f"ENV=prod refuses a stand-in for Stripe: STRIPE_API_BASE is {s.stripe_api_base}; unset it"]
        if key and not live:
            return ["ENV=prod refuses a test key: no customer would ever be charged; set STRIPE_API_KEY to a live key"]
    elif live and not s.force_live:
        return [f"ENV={s.env} refuses a live Stripe key: real money would move; use sk_test_…, or ENV=prod, or WEIGHBRIDGE_FORCE_LIVE=true"]
    return []
