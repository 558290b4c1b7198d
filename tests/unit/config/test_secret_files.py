"""A secret comes from its variable or from the file that NAME_FILE names, and is in no message about it."""

from pathlib import Path

import pytest

from config.secret_files import SecretUnreadable, instead, reader, secret_of
from config.settings import SETTINGS, Settings, SettingsFaulty, read_settings

VALUES = {
    "DATABASE_URL": "postgresql://ann:hunter2@db/wb", "REDIS_URL": "redis://:hunter2@r:6379/0", "STRIPE_API_KEY": "sk_test_hunter2hunter2",
    "STRIPE_WEBHOOK_SECRET": "whsec_hunter2,whsec_hunter3", "WEIGHBRIDGE_SIGNING_SECRET": "hunter2hunter2",
    "SMTP_PASSWORD": "hunter2", "WEIGHBRIDGE_TOKEN": "wbt_hunter2",
}  # fmt: skip


def test_every_secret_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    assert set(VALUES) == {name for name, setting in SETTINGS.items() if setting.metadata["secret"]}
    environ = {}
    for name, value in VALUES.items():
        (tmp_path / name).write_text(value + "\n")
        environ[name + "_FILE"] = str(tmp_path / name)
    assert read_settings(environ) == read_settings(VALUES)
    assert read_settings(environ).warnings == ()
    assert "hunter2" not in repr(read_settings(environ))


def test_a_variable_and_its_file_are_not_both_given(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hunter3")
    with pytest.raises(SettingsFaulty, match="both set") as refused:
        Settings.load({"WEIGHBRIDGE_SIGNING_SECRET": "hunter2", "WEIGHBRIDGE_SIGNING_SECRET_FILE": str(tmp_path / "s")})
    assert "hunter" not in str(refused.value)
    assert read_settings({"REDIS_URL": "", "REDIS_URL_FILE": ""}).redis_url is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "one line"),
        (b"hunter2\nhunter3\n", "one line"),
        (b"\xffhunter2", "UTF-8"),
        (b"h" * 70_000, "one line"),
    ],
)
def test_a_file_that_will_not_do_is_named_and_not_quoted(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretUnreadable, match=said) as refused:
        secret_of({"JWT_SECRET_FILE": str(path)}, "JWT_SECRET")
    assert str(path) in str(refused.value)
    assert "hunter" not in str(refused.value)


def test_the_secrets_that_the_configuration_names_are_read_likewise(tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text("hunter2\n")
    secrets = reader({"JWT_SECRET_FILE": str(tmp_path / "jwt"), "OTHER": "x"})
    assert (secrets("JWT_SECRET"), secrets("OTHER"), secrets("NOTHING")) == ("hunter2", "x", None)


def test_what_is_known_by_now_stands_in_place_of_variable_and_file() -> None:
    assert instead({"REDIS_URL_FILE": "/x", "A": "1"}, {"REDIS_URL": "redis://r"}) == {"A": "1", "REDIS_URL": "redis://r"}


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "postgresql://ann:hun/ter2@db/wb"}, {"DATABASE_URL": "mysql://ann:hunter2@db/wb"},
        {"REDIS_URL": "redis://:hun/ter2@r:6379"}, {"REDIS_URL": "http://:hunter2@r"}, {"STRIPE_API_KEY": "pk_hunter2"},
        {"DATABASE_URL": "postgresql://ann:hunter2#ter2@db:54x/wb"},
    ],
)  # fmt: skip
def test_a_faulty_secret_is_refused_in_words_without_a_part_of_it(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsFaulty) as refused:
        read_settings(environ)
    assert "hun" not in str(refused.value)
    assert "ter2" not in str(refused.value)
