"""Payment methods and payments in Postgres. The SQL is in payments.sql."""

import asyncpg

from billing.model.payment import Payment, PaymentMethod, PaymentOutcome, PaymentState
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "payments.sql")
_PUT_METHOD, _DROP_METHOD, _METHODS, _SET_DEFAULT = _SQL["put_method"], _SQL["drop_method"], _SQL["methods"], _SQL["set_default"]
_CHARGED = _SQL["charged"]
_BEGIN, _ONE, _LOCK_INVOICE, _OF_INVOICE = _SQL["begin"], _SQL["one"], _SQL["lock_invoice"], _SQL["of_invoice"]
_BY_PAYMENT_ID, _SETTLE, _UNKNOWN, _REFUNDED = _SQL["by_payment_id"], _SQL["settle"], _SQL["unknown"], _SQL["refunded"]


class PaymentMethodTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def put(self, method: PaymentMethod, now_ms: int) -> None:
        m = method
        values = (m.id, m.org_id, m.type, m.brand, m.last4, m.exp_month, m.exp_year, to_datetime(now_ms))
        await self._connection.execute(_PUT_METHOD, *values)

    async def drop(self, method_id: str) -> str | None:
        found = await self._connection.fetchval(_DROP_METHOD, method_id)
        return str(found) if found is not None else None

    async def of_org(self, org_id: str) -> list[PaymentMethod]:
        return [_method(row) for row in await self._connection.fetch(_METHODS, org_id)]

    async def set_default(self, org_id: str, method_id: str | None) -> None:
        await self._connection.execute(_SET_DEFAULT, org_id, method_id)

    async def charged(self, org_id: str) -> str | None:
        found: str | None = await self._connection.fetchval(_CHARGED, org_id)
        return found


class PaymentAttemptTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def begin(self, payment: Payment) -> Payment:
        p = payment
        await self._connection.execute(
            _BEGIN, p.invoice_id, p.attempt, p.org_id, p.amount_minor, p.currency, p.customer, p.method, p.state.value, p.reason,
            to_datetime(p.begun_ms),
        )  # fmt: skip
        return _payment(await self._connection.fetchrow(_ONE, p.invoice_id, p.attempt))

    async def of_invoice(self, invoice_id: str, *, lock: bool = False) -> list[Payment]:
        if lock:
            await self._connection.execute(_LOCK_INVOICE, invoice_id)
        return [_payment(row) for row in await self._connection.fetch(_OF_INVOICE, invoice_id)]

    async def by_payment_id(self, payment_id: str) -> Payment | None:
        row = await self._connection.fetchrow(_BY_PAYMENT_ID, payment_id)
        return _payment(row) if row else None

    async def settle(self, invoice_id: str, attempt: int, outcome: PaymentOutcome, now_ms: int) -> bool:
        values = (invoice_id, attempt, outcome.state.value, outcome.reason, outcome.payment_id, to_datetime(now_ms))
        return await self._connection.fetchval(_SETTLE, *values) is not None

    async def unknown(self, begun_before_ms: int, limit: int) -> list[Payment]:
        return [_payment(row) for row in await self._connection.fetch(_UNKNOWN, to_datetime(begun_before_ms), limit)]

    async def refunded(self, invoice_id: str, attempt: int, refunded_minor: int) -> None:
        await self._connection.execute(_REFUNDED, invoice_id, attempt, refunded_minor)


def _method(row: asyncpg.Record) -> PaymentMethod:
    return PaymentMethod(
        id=row["id"],
        org_id=str(row["org_id"]),
        type=row["type"],
        brand=row["brand"],
        last4=row["last4"],
        exp_month=row["exp_month"],
        exp_year=row["exp_year"],
        default=row["is_default"],
    )


def _payment(row: asyncpg.Record) -> Payment:
    return Payment(
        org_id=str(row["org_id"]),
        invoice_id=row["invoice_id"],
        attempt=row["attempt"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        customer=row["customer"],
        method=row["method"],
        begun_ms=to_ms(row["begun_at"]),
        state=PaymentState(row["state"]),
        reason=row["reason"],
        payment_id=row["payment_id"],
        refunded_minor=row["refunded_minor"],
    )
