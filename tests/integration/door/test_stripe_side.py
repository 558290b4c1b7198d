"""A data folder that holds the sandbox's ids is not served to an account, nor by one command."""

import pytest

SENTENCE = "holds ids of the Stripe sandbox, and STRIPE_API_KEY is a key of test mode"


@pytest.mark.timeout(240)
@pytest.mark.long
def test_up_with_a_key_on_the_sandboxs_data_ends_with_a_sentence_and_changes_nothing(home) -> None:
    assert home.start().interrupt() == 0
    plans = home.config / "plans.yaml"
    before = plans.read_text()
    plans.write_text(before.replace("49.00", "59.00"))
    home.environ["STRIPE_API_KEY"] = "sk_test_of_an_account"
    refused = home.cli("up", "--port", "0")
    assert refused.returncode == 1
    assert f"The database at {home.data} {SENTENCE}" in refused.stderr
    assert "Use another database" in refused.stderr
    assert "or unset STRIPE_API_KEY" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (home.data / "ready.json").exists()

    plans.write_text(before)
    del home.environ["STRIPE_API_KEY"]
    home.start()
    try:
        url = {"DATABASE_URL": home.ready["database"], "REDIS_URL": home.ready["redis"]}
        assert home.cli_json("config", "diff")["changes"] == []
        assert home.cli_json("org", "show", "demo-pro")["plan_version"] == 1
        home.environ |= url | {"STRIPE_API_KEY": "sk_test_of_an_account", "WEIGHBRIDGE_DATA_DIR": str(home.home / "elsewhere")}
        flushed = home.cli("flush")
        assert (flushed.returncode, flushed.stdout) == (1, "")
        assert SENTENCE in flushed.stderr
    finally:
        assert home.interrupt() == 0
