"""Postgres: one way to open a pool, with a clear sentence for a server that will not do; and SQL loaded by name.

SQL lies in .sql files beside the room that owns it, in blocks that start with `-- name --`. A query is looked up
when its module is imported, so an unknown name fails at start. jsonb goes in and out as text.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from metering.model.errors import DependencyUnavailable, WeighbridgeError

LEAST_VERSION = 15
_TURNED_AWAY = (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
_SCHEMES = ("postgresql", "postgres")


class DatabaseUnreachable(DependencyUnavailable):
    """The database server does not answer."""

    code = "database_unreachable"


class DatabaseUnsuitable(DependencyUnavailable):
    """The database server answers, and cannot be used."""

    code, retryable = "database_unsuitable", False


class DatabaseUrlFaulty(DatabaseUnsuitable):
    """DATABASE_URL is not the address of a Postgres database."""

    code = "database_url_faulty"


class UnknownQuery(WeighbridgeError):
    """There is no SQL block of this name."""

    code = "unknown_query"


_CONNECT_TIMEOUT_SECONDS = 10.0


SERVICE = "weighbridge_service"  # works over every organization; metering/store/migrations/0009_row_security.sql tells the roles

_TAKE_ROLE = "SELECT set_config('role', rolname, false) FROM pg_roles WHERE rolname = $1 AND pg_has_role(session_user, oid, 'MEMBER')"


async def open_pool(
    url: str, *, application: str, min_size: int = 1, max_size: int = 8, role: str | None = None, actor: str | None = None
) -> asyncpg.Pool:
    """A pool on a server that was checked to be new enough. Its connections work in `role`, where the login may take it; what they
    change stands in the audit log as done by `actor` (None: by the login).

    Raises DatabaseUrlFaulty, DatabaseUnreachable (worth trying again) or DatabaseUnsuitable, each with a sentence for
    the operator; none of them shows the password.
    """

    async def begin(connection: asyncpg.Connection) -> None:
        if role is not None:
            await connection.fetchval(_TAKE_ROLE, role)

    with _sentences(url):
        pool = await asyncpg.create_pool(url, min_size=min_size, max_size=max_size, init=begin, **_options(application, actor))
    try:
        await _check_server(pool, url)
    except BaseException:
        await pool.close()
        raise
    return pool


async def open_connection(url: str, *, application: str) -> asyncpg.Connection:
    """One connection, checked and with the same errors as `open_pool`."""
    with _sentences(url):
        connection = await asyncpg.connect(url, **_options(application))
    try:
        await _check_server(connection, url)
    except BaseException:
        await connection.close()
        raise
    return connection


def _options(application: str, actor: str | None = None) -> dict[str, Any]:
    settings = {"application_name": application, "timezone": "UTC"}
    if actor is not None:
        settings["weighbridge.actor"] = actor
    return {"timeout": _CONNECT_TIMEOUT_SECONDS, "command_timeout": 60, "server_settings": settings}


async def _check_server(server: asyncpg.Pool | asyncpg.Connection, url: str) -> None:
    check_version(int(await server.fetchval("SELECT current_setting('server_version_num')")), where=redacted(url))


def check_version(number: int, *, where: str) -> None:
    """Raises DatabaseUnsuitable unless `number` (such as 150004) is Postgres 15 or newer."""
    if number < LEAST_VERSION * 10_000:
        major, minor = divmod(number, 10_000)
        raise DatabaseUnsuitable(
            f"The server at {where} is Postgres {major}.{minor}; Weighbridge needs Postgres {LEAST_VERSION} or newer. "
            "Upgrade it, or point DATABASE_URL at a newer one."
        )


def redacted(url: str) -> str:
    """The URL without its password and parameters, fit for a log."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    socket = re.search(r"(?:^|&)host=([^&]+)", parts.query)
    return f"{parts.scheme}://{user}{parts.hostname or (socket[1] if socket else '')}{port}{parts.path}"


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise DatabaseUrlFaulty("DATABASE_URL cannot be read. Expected postgresql://user:password@host:5432/database.") from exc
    if parts.scheme not in _SCHEMES:
        raise DatabaseUrlFaulty(
            f"DATABASE_URL starts with {parts.scheme or 'nothing'!r}; expected postgresql://user:password@host:5432/database."
        )


@contextmanager
def _sentences(url: str) -> Iterator[None]:
    """Turn the driver's errors about connecting into ours."""
    _check_url(url)
    where = redacted(url)
    try:
        yield
    except asyncpg.InvalidCatalogNameError as exc:
        raise DatabaseUnsuitable(
            f"The server of {where} has no database {urlsplit(url).path.lstrip('/')!r}. Create it with createdb, or correct DATABASE_URL."
        ) from exc
    except asyncpg.InvalidAuthorizationSpecificationError as exc:
        raise DatabaseUnsuitable(f"The server at {where} refuses this user or password: {exc}.") from exc
    except asyncpg.ClientConfigurationError as exc:
        raise DatabaseUrlFaulty(f"DATABASE_URL cannot be used: {exc}.") from exc
    except (OSError, TimeoutError, asyncpg.PostgresConnectionError, *_TURNED_AWAY) as exc:
        reason = str(exc) or f"no answer within {_CONNECT_TIMEOUT_SECONDS:g} s"
        raise DatabaseUnreachable(f"Postgres at {where} cannot be reached: {reason}. Is it running, and is DATABASE_URL right?") from exc


@contextmanager
def out_of_reach() -> Iterator[None]:
    """Turn the driver's errors about a connection that is lost into DatabaseUnreachable."""
    try:
        yield
    except Exception as exc:
        if (unreachable := lost(exc)) is None:
            raise
        raise unreachable from exc


def lost(error: BaseException) -> DatabaseUnreachable | None:
    """What a driver's error about a lost connection, or one that cannot be had, is to us; None for any other error."""
    if isinstance(error, ValueError):  # how the driver calls an argument that does not fit
        return None
    if isinstance(error, (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, *_TURNED_AWAY)):
        return DatabaseUnreachable(f"Postgres is out of reach: {error or type(error).__name__}")
    return None


_NAME = re.compile(r"^-- ([a-z][a-z0-9_]*) --\s*$")


@dataclass(frozen=True, slots=True)
class Queries(Mapping[str, str]):
    """The named blocks of one .sql file."""

    file: str
    blocks: Mapping[str, str] = field(repr=False)

    @classmethod
    def load(cls, package: str, file: str) -> "Queries":
        """The blocks of `file` in `package`. Raises FileNotFoundError, and ValueError for a file out of order."""
        return cls(f"{package}/{file}", parse_blocks((files(package) / file).read_text("utf-8"), file))

    def __getitem__(self, name: str) -> str:
        if name not in self.blocks:
            raise UnknownQuery(f"{self.file} has no block -- {name} --; it has {', '.join(self.blocks)}", name=name)
        return self.blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)


def parse_blocks(text: str, file: str) -> dict[str, str]:
    """Split a file at its `-- name --` lines. Raises ValueError for a name given twice, an empty block, SQL before the first."""
    blocks: dict[str, list[str]] = {}
    name: str | None = None
    for line in text.splitlines():
        if match := _NAME.match(line):
            name = match[1]
            if name in blocks:
                raise ValueError(f"{file}: block {name} stands twice")
            blocks[name] = []
        elif name is not None:
            blocks[name].append(line)
        elif line.strip() and not line.startswith("--"):
            raise ValueError(f"{file}: SQL before the first -- name -- line: {line.strip()}")
    for key, lines in blocks.items():
        if all(not line.strip() or line.startswith("--") for line in lines):
            raise ValueError(f"{file}: block {key} is empty")
    return {key: "\n".join(lines).strip() for key, lines in blocks.items()}
