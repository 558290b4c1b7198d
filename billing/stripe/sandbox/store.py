"""Everything the sandbox was told, in one SQLite file (or in memory): objects, meter events, replies, requests, what is due.

One request is one transaction: its objects and its stored reply appear together, or not at all.
"""

import json
import secrets
import sqlite3
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));
CREATE INDEX IF NOT EXISTS objects_customer ON objects (kind, json_extract(body, '$.customer'));
CREATE INDEX IF NOT EXISTS objects_subscription ON objects (kind, json_extract(body, '$.subscription'));
CREATE INDEX IF NOT EXISTS objects_invoice ON objects (kind, json_extract(body, '$.invoice'));
CREATE TABLE IF NOT EXISTS meter_events (
    seq INTEGER PRIMARY KEY, event_name TEXT NOT NULL, customer TEXT NOT NULL, identifier TEXT NOT NULL,
    value INTEGER NOT NULL, timestamp INTEGER NOT NULL, received INTEGER NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS meter_events_identifier ON meter_events (identifier, received);
CREATE INDEX IF NOT EXISTS meter_events_sum ON meter_events (event_name, customer, timestamp);
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL, stored INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, params TEXT NOT NULL,
    idempotency_key TEXT, outcome TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY, event TEXT NOT NULL, endpoint TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL, answer TEXT);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due, seq) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_event ON deliveries (event);
CREATE TABLE IF NOT EXISTS agenda (
    seq INTEGER PRIMARY KEY, clock TEXT NOT NULL, due INTEGER NOT NULL, work TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (work, id));
CREATE INDEX IF NOT EXISTS agenda_due ON agenda (clock, due, seq);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_ALPHABET = string.ascii_letters + string.digits
_REQUESTS_KEPT = 10_000
_FORM = 2  # of the objects within; raised when an older file could no longer be read
_TABLES = "SELECT count(*) FROM sqlite_master"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterEvent:
    """One accepted event. Instants are Unix seconds."""

    event_name: str
    customer: str
    identifier: str
    value: int
    timestamp: int
    received: int
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint. `due` is when it is tried next, in Unix seconds."""

    seq: int
    event: str
    endpoint: str
    state: str
    attempts: int
    due: int
    answer: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered to an idempotency key."""

    fingerprint: str
    status: int
    body: str
    stored: int


class Store:
    """Opened on a file, or on nothing for memory only. Not for several threads."""

    def __init__(self, path: Path | None = None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        (form,), (tables,) = self._db.execute("PRAGMA user_version").fetchone(), self._db.execute(_TABLES).fetchone()
        if tables and form != _FORM:
            self._db.close()
            raise sqlite3.DatabaseError("it was written by another version of the sandbox; remove it to start anew")
        self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA user_version = {_FORM};{_SCHEMA}")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: undo this much if it raises."""
        self._db.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK TO part")
            raise
        finally:
            self._db.execute("RELEASE part")

    # objects

    def insert(self, kind: str, body: dict[str, Any]) -> None:
        self._db.execute("INSERT INTO objects (kind, id, body) VALUES (?, ?, ?)", (kind, body["id"], json.dumps(body)))

    def replace(self, kind: str, body: dict[str, Any]) -> None:
        self._db.execute("UPDATE objects SET body = ? WHERE kind = ? AND id = ?", (json.dumps(body), kind, body["id"]))

    def get(self, kind: str, object_id: str) -> dict[str, Any] | None:
        row = self._db.execute("SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, object_id)).fetchone()
        return json.loads(row[0]) if row else None

    def newest_first(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in self._db.execute("SELECT body FROM objects WHERE kind = ? ORDER BY seq DESC", (kind,))]

    def of(self, kind: str, owner: Literal["customer", "subscription", "invoice"], owner_id: str) -> list[dict[str, Any]]:
        """Those that belong to one customer, subscription or invoice; newest first."""
        where = {name: f"json_extract(body, '$.{name}')" for name in ("customer", "subscription", "invoice")}[owner]
        sql = f"SELECT body FROM objects WHERE kind = ? AND {where} = ? ORDER BY seq DESC"  # noqa: S608  one of three constants
        return [json.loads(row[0]) for row in self._db.execute(sql, (kind, owner_id))]

    # meter events

    def add_event(self, event: MeterEvent) -> None:
        self._db.execute(
            "INSERT INTO meter_events (event_name, customer, identifier, value, timestamp, received) VALUES (?, ?, ?, ?, ?, ?)",
            (event.event_name, event.customer, event.identifier, event.value, event.timestamp, event.received),
        )

    def event_received_after(self, identifier: str, instant: int) -> MeterEvent | None:
        """The event with this identifier, if one was received after `instant` (Unix seconds)."""
        found = self._events("WHERE identifier = ? AND received > ? ORDER BY seq DESC LIMIT 1", identifier, instant)
        return found[0] if found else None

    def cancel_event(self, identifier: str, event_name: str) -> None:
        self._db.execute("UPDATE meter_events SET cancelled = 1 WHERE identifier = ? AND event_name = ?", (identifier, event_name))

    def events_between(self, event_name: str, customer: str, start: int, end: int) -> list[MeterEvent]:
        """Events that count, with timestamps in [start, end), oldest first."""
        return self._events(
            "WHERE event_name = ? AND customer = ? AND timestamp >= ? AND timestamp < ? AND NOT cancelled ORDER BY timestamp, seq",
            event_name,
            customer,
            start,
            end,
        )

    def all_events(self) -> list[MeterEvent]:
        return self._events("ORDER BY seq")

    def _events(self, where: str, *values: object) -> list[MeterEvent]:
        columns = "event_name, customer, identifier, value, timestamp, received, cancelled"
        rows = self._db.execute(f"SELECT {columns} FROM meter_events {where}", values)  # noqa: S608  both are constants of this file
        return [
            MeterEvent(
                event_name=name, customer=customer, identifier=identifier, value=value, timestamp=at, received=got, cancelled=bool(gone)
            )
            for name, customer, identifier, value, at, got, gone in rows
        ]

    # deliveries of events

    def queue_delivery(self, event: str, endpoint: str, due: int) -> None:
        self._db.execute("INSERT INTO deliveries (event, endpoint, due) VALUES (?, ?, ?)", (event, endpoint, due))

    def undelivered(self, event: str) -> int:
        """How many endpoints have not taken this event yet."""
        sql = "SELECT count(*) FROM deliveries WHERE event = ? AND state != 'delivered'"
        return int(self._db.execute(sql, (event,)).fetchone()[0])

    def deliveries(self, *, due_by: int | None = None) -> list[Delivery]:
        """All of them, or those still to be tried at this instant; oldest first."""
        columns = "seq, event, endpoint, state, attempts, due, answer"
        where, values = ("", ()) if due_by is None else ("WHERE state = 'pending' AND due <= ?", (due_by,))
        rows = self._db.execute(f"SELECT {columns} FROM deliveries {where} ORDER BY seq", values)  # noqa: S608  constants of this file
        names = columns.split(", ")
        return [Delivery(**dict(zip(names, row, strict=True))) for row in rows]

    def refused(self, event_type: str, object_id: str) -> bool:
        """Whether some endpoint was told of this event of this object, and did not take it."""
        sql = """SELECT 1 FROM deliveries d JOIN objects e ON e.kind = 'event' AND e.id = d.event
                 WHERE d.state != 'delivered' AND d.attempts > 0
                   AND json_extract(e.body, '$.type') = ? AND json_extract(e.body, '$.data.object.id') = ?"""
        return self._db.execute(sql, (event_type, object_id)).fetchone() is not None

    def note_delivery(self, seq: int, *, state: str, due: int, answer: str) -> None:
        sql = "UPDATE deliveries SET state = ?, due = ?, answer = ?, attempts = attempts + 1 WHERE seq = ?"
        self._db.execute(sql, (state, due, answer, seq))

    def drop_deliveries(self, endpoint: str) -> None:
        self._db.execute("DELETE FROM deliveries WHERE endpoint = ? AND state != 'delivered'", (endpoint,))

    # what falls due

    def plan(self, work: str, object_id: str, due: int | None, clock: str | None) -> None:
        """This work on this object is due then, and no longer at another time; None takes it off the agenda."""
        self._db.execute("DELETE FROM agenda WHERE work = ? AND id = ?", (work, object_id))
        if due is not None:
            self._db.execute("INSERT INTO agenda (clock, due, work, id) VALUES (?, ?, ?, ?)", (clock or "", due, work, object_id))

    def next_due(self, clock: str | None, by: int) -> tuple[int, str, str] | None:
        """The first (due, work, id) of a clock (None: the sandbox's own), taken off the agenda, if it is due by then."""
        sql = "SELECT seq, due, work, id FROM agenda WHERE clock = ? AND due <= ? ORDER BY due, seq LIMIT 1"
        row = self._db.execute(sql, (clock or "", by)).fetchone()
        if row is None:
            return None
        self._db.execute("DELETE FROM agenda WHERE seq = ?", (row[0],))
        return row[1], row[2], row[3]

    def agenda(self) -> list[dict[str, Any]]:
        rows = self._db.execute("SELECT clock, due, work, id FROM agenda ORDER BY due, seq")
        return [{"clock": clock or None, "due": due, "work": work, "id": name} for clock, due, work, name in rows]

    # settings of the sandbox itself

    def setting(self, name: str, default: Any) -> Any:
        row = self._db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def set(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    # replies and requests

    def reply(self, key: str) -> Reply | None:
        row = self._db.execute("SELECT fingerprint, status, body, stored FROM replies WHERE key = ?", (key,)).fetchone()
        return Reply(*row) if row else None

    def keep_reply(self, key: str, reply: Reply) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)", (key, reply.fingerprint, reply.status, reply.body, reply.stored)
        )

    def forget_replies_before(self, instant: int) -> None:
        self._db.execute("DELETE FROM replies WHERE stored < ?", (instant,))

    def note_request(self, at: int, method: str, path: str, params: str, key: str | None, outcome: str) -> None:
        cursor = self._db.execute(
            "INSERT INTO requests (at, method, path, params, idempotency_key, outcome) VALUES (?, ?, ?, ?, ?, ?)",
            (at, method, path, params, key, outcome),
        )
        self._db.execute("DELETE FROM requests WHERE seq <= ?", ((cursor.lastrowid or 0) - _REQUESTS_KEPT,))

    def requests(self) -> list[dict[str, Any]]:
        names = ("at", "method", "path", "params", "idempotency_key", "outcome")
        rows = self._db.execute("SELECT at, method, path, params, idempotency_key, outcome FROM requests ORDER BY seq")
        return [dict(zip(names, row, strict=True)) for row in rows]


def new_id(prefix: str) -> str:
    """An id of Stripe's form, such as cus_Qx…"""
    return prefix + "_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))
