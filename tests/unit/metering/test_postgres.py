"""SQL by name, versions, addresses: what needs no server."""

import pytest

from metering.store.migrate import DatabaseNewer, Migration, MigrationChanged, pending
from metering.store.postgres import DatabaseUnsuitable, Queries, UnknownQuery, check_version, parse_blocks, redacted

ONE, TWO = Migration(1, "one", "", "a"), Migration(2, "two", "", "b")


def test_blocks_are_found_by_name() -> None:
    blocks = parse_blocks("-- A file.\n\n-- first --\n-- What it means.\nSELECT 1\n-- second --\nSELECT 2\n", "x.sql")
    assert list(blocks) == ["first", "second"]
    assert blocks["second"] == "SELECT 2"


@pytest.mark.parametrize("text", ["-- a --\nSELECT 1\n-- a --\nSELECT 2", "SELECT 1\n-- a --\nSELECT 2", "-- a --\n-- only words\n"])
def test_a_file_out_of_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"x\.sql"):
        parse_blocks(text, "x.sql")


def test_an_unknown_name_fails_and_says_what_there_is() -> None:
    with pytest.raises(UnknownQuery, match="it has first"):
        Queries("x.sql", {"first": "SELECT 1"})["second"]


def test_an_old_server_is_refused_with_both_versions_named() -> None:
    with pytest.raises(DatabaseUnsuitable, match=r"Postgres 14\.4; Weighbridge needs Postgres 15"):
        check_version(140004, where="here")
    check_version(150000, where="here")


def test_a_shown_address_has_no_password() -> None:
    assert redacted("postgresql://ann:secret@db:5433/wb?sslpassword=x") == "postgresql://ann@db:5433/wb"


def test_only_missing_migrations_are_pending() -> None:
    assert pending([ONE, TWO], {1: "a"}) == [TWO]
    assert pending([ONE, TWO], {1: "a", 2: "b"}) == []


def test_an_edited_migration_is_refused() -> None:
    with pytest.raises(MigrationChanged):
        pending([ONE, TWO], {1: "other"})


def test_a_number_unknown_to_this_program_is_refused() -> None:
    with pytest.raises(DatabaseNewer):
        pending([ONE], {1: "a", 2: "b"})
