"""Slugs, key states, shares of a quota."""

from decimal import Decimal

import pytest

from billing.model.organization import ApiKey, SlugFaulty, check_slug, numbered, slugify
from billing.model.usage import Status, percentage, status_of


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme Corp.", "acme-corp"),
        ("  Ünïcödé & Söhne  ", "unicode-sohne"),
        ("東京", "org"),
        ("--", "org"),
        ("a" * 100, "a" * 63),
        ("x" * 62 + " y", "x" * 62),
        ("4a0b5b5e-0000-4000-8000-000000000001", "org-4a0b5b5e-0000-4000-8000-000000000001"),
    ],
)
def test_a_slug_comes_from_the_name(name: str, slug: str) -> None:
    assert check_slug(slugify(name)) == slug


def test_a_numbered_slug_is_still_a_slug() -> None:
    assert [numbered("acme", n) for n in (1, 2, 10)] == ["acme", "acme-2", "acme-10"]
    assert len(check_slug(numbered("a" * 63, 1234))) == 63


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a b", "a" * 64, "4a0b5b5e-0000-4000-8000-000000000001", "a_b"])
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(SlugFaulty):
        check_slug(slug)


@pytest.mark.parametrize(
    ("expires", "revoked", "status"),
    [(None, None, "active"), (101, None, "expiring"), (100, None, "expired"), (None, 50, "revoked"), (101, 50, "revoked")],
)
def test_a_key_has_a_state(expires: int | None, revoked: int | None, status: str) -> None:
    key = ApiKey(id=1, org_id="o", sha256="s", hint="h", expires_at_ms=expires, revoked_at_ms=revoked)
    assert key.status(100) == status


@pytest.mark.parametrize(
    ("used", "limit", "percent", "status"),
    [
        (0, 100, "0.00", Status.OK),
        (79_999, 100_000, "80.00", Status.OK),  # decided on the count, not on the rounded figure
        (80_000, 100_000, "80.00", Status.WARNING),
        (99_999, 100_000, "100.00", Status.WARNING),
        (100_000, 100_000, "100.00", Status.EXCEEDED),
        (45_231, 100_000, "45.23", Status.OK),
        (0, 0, "100.00", Status.EXCEEDED),
        (5, None, None, Status.OK),
    ],
)
def test_a_share_of_a_quota_and_its_status(used: int, limit: int | None, percent: str | None, status: Status) -> None:
    assert percentage(used, limit) == (None if percent is None else Decimal(percent))
    assert status_of(used, limit) is status
