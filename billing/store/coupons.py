"""Coupons and discounts in Postgres. The SQL is in coupons.sql."""

from collections.abc import Sequence
from decimal import Decimal

import asyncpg

from billing.model.discount import Coupon, Discount, Duration
from billing.services.ports_wallet import Redeemed
from billing.store.rows import from_jsonb, instant, jsonb, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "coupons.sql")
_INSERT, _GET, _PAGE, _COUNT, _WITHDRAW = _SQL["insert"], _SQL["get"], _SQL["page"], _SQL["count"], _SQL["withdraw"]
_LOCK, _OF_ORG, _REDEEM, _SET_REMOVED, _USE, _UNDO = (
    _SQL["lock_discounts"], _SQL["discounts_of_org"], _SQL["redeem"], _SQL["set_removed"], _SQL["use"], _SQL["undo"]
)  # fmt: skip


class CouponTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, coupon: Coupon, now_ms: int) -> bool:
        amounts = jsonb({currency: str(amount) for currency, amount in coupon.amount_off.items()}) if coupon.amount_off else None
        code = await self._connection.fetchval(
            _INSERT, coupon.code, coupon.name, coupon.percent_off, amounts, coupon.duration.value, coupon.months,
            coupon.max_redemptions, instant(coupon.redeem_by_ms), to_datetime(now_ms),
        )  # fmt: skip
        return code is not None

    async def get(self, code: str) -> Coupon | None:
        row = await self._connection.fetchrow(_GET, code)
        return _coupon(row) if row else None

    async def page(self, after: str | None, limit: int) -> list[Coupon]:
        return [_coupon(row) for row in await self._connection.fetch(_PAGE, after, limit)]

    async def count(self, code: str) -> bool:
        return await self._connection.fetchval(_COUNT, code) is not None

    async def withdraw(self, code: str, now_ms: int) -> bool:
        return await self._connection.fetchval(_WITHDRAW, code, to_datetime(now_ms)) is not None


class DiscountTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of_org(self, org_id: str) -> list[Redeemed]:
        return [Redeemed(_discount(row), row["removed_at"] is not None) for row in await self._connection.fetch(_OF_ORG, org_id)]

    async def lock(self, org_id: str) -> None:
        await self._connection.fetch(_LOCK, org_id)

    async def redeem(self, org_id: str, coupon: str, start_ms: int, end_ms: int | None) -> int:
        return int(await self._connection.fetchval(_REDEEM, org_id, coupon, to_datetime(start_ms), instant(end_ms)))

    async def set_removed(self, discount_id: int, at_ms: int | None) -> None:
        await self._connection.execute(_SET_REMOVED, discount_id, instant(at_ms))

    async def use(self, org_id: str, invoice_id: str, taken: Sequence[tuple[int, Decimal]], now_ms: int) -> None:
        numbers, amounts = [number for number, _ in taken], [amount for _, amount in taken]
        await self._connection.execute(_USE, numbers, amounts, invoice_id, org_id, to_datetime(now_ms))

    async def undo(self, invoice_id: str, now_ms: int) -> int:
        return len(await self._connection.fetch(_UNDO, invoice_id, to_datetime(now_ms)))


def _coupon(row: asyncpg.Record) -> Coupon:
    amounts = from_jsonb(row["amount_off"]) if row["amount_off"] else {}
    return Coupon(
        code=row["code"],
        percent_off=row["percent_off"],
        amount_off={currency: Decimal(amount) for currency, amount in amounts.items()},
        duration=Duration(row["duration"]),
        months=row["months"],
        max_redemptions=row["max_redemptions"],
        redeem_by_ms=ms(row["redeem_by"]),
        name=row["name"],
        redeemed=row["redeemed"],
        withdrawn=row["withdrawn_at"] is not None,
    )


def _discount(row: asyncpg.Record) -> Discount:
    return Discount(id=row["id"], coupon=_coupon(row), start_ms=to_ms(row["start_at"]), end_ms=ms(row["end_at"]), used=row["used"])
