"""Views under the guide's names (`weighbridge init --compat`): compat.sql, run by whoever owns the schema."""

import re
from importlib.resources import files

from metering.model.errors import BadInput
from metering.store.postgres import open_connection

_SQL = (files("weighbridge") / "compat.sql").read_text("utf-8")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_VIEWS = """
SELECT c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'v' AND c.relname LIKE 'billing\\_%' ORDER BY 1
"""


async def install(database_url: str, *, schema: str, role: str) -> list[str]:
    """The views that stand there then. Doing it again changes nothing.

    Raises BadInput where the schema, the role or auth.uid() is not there: they are the application's.
    """
    for name in (schema, role):
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name!r} is no plain name of a schema or a role")
    connection = await open_connection(database_url, application="weighbridge compat")
    try:
        if await connection.fetchval("SELECT to_regnamespace($1)", schema) is None:
            raise BadInput(f"there is no schema {schema} in this database")
        if await connection.fetchval("SELECT to_regrole($1)", role) is None:
            raise BadInput(f"there is no role {role}: name the one that the application's users have, with --compat-role")
        if await connection.fetchval("SELECT to_regprocedure('auth.uid()')") is None:
            raise BadInput("there is no function auth.uid() that says which user asks: the policies of the views need it")
        async with connection.transaction():
            await connection.execute(_SQL.replace("{schema}", schema).replace("{role}", role))
        return [row["relname"] for row in await connection.fetch(_VIEWS, schema)]
    finally:
        await connection.close()
