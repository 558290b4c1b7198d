"""For whom a call is: by token or header, safe names only, and a bounded number of them."""

import json

import pytest

from config.gateway import Route
from gateway.tenants import TenantFaulty, TenantNames, tenant_of
from metering.model.ledger import TENANTS_A_DAY

ROUTE = Route(id=1, path="/*", upstream="app", tenant_header="x-tenant-id")
DAY_MS = 86_400_000


class Head:
    def __init__(self, **headers: str) -> None:
        self._headers = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
        self.names = list(self._headers)

    def header(self, lower_name: bytes) -> bytes | None:
        return self._headers.get(lower_name)


@pytest.mark.parametrize("name", ["emea", "tenant-7", "a@b.example", "x" * 64, " padded "])
def test_a_tenant_is_named_by_the_header(name: str) -> None:
    assert tenant_of(Head(x_tenant_id=name), ROUTE, None) == name.strip()


def test_a_call_that_names_none_is_one_of_those_and_a_token_stands_above_the_header() -> None:
    assert tenant_of(Head(), ROUTE, None) == ""
    assert tenant_of(Head(x_tenant_id="emea"), ROUTE, "apac") == "apac"
    assert tenant_of(Head(x_tenant_id="emea"), Route(id=1, path="/*", upstream="app"), None) == ""


@pytest.mark.parametrize("name", ["", " ", "a b", "a|b", 'a"b', "a/b", "é", "x" * 65, "a\x00b", "{}"])
def test_a_name_that_will_not_do_is_refused(name: str) -> None:
    with pytest.raises(TenantFaulty) as refused:
        tenant_of(Head(x_tenant_id=name), ROUTE, None)
    assert (refused.value.http_status, refused.value.code) == (400, "tenant_faulty")


def test_a_name_that_came_twice_is_refused() -> None:
    head = Head(x_tenant_id="emea")
    head.names.append(b"x-tenant-id")
    with pytest.raises(TenantFaulty):
        tenant_of(head, ROUTE, None)


def test_after_a_thousand_names_of_a_day_the_rest_are_others_and_the_known_stay() -> None:
    names = TenantNames()
    for number in range(TENANTS_A_DAY):
        assert json.loads(names.dimension("acme", f"t{number}", 0)) == {"tenant": f"t{number}"}
    assert json.loads(names.dimension("acme", "late", 0)) == {"tenant": "other"}
    assert json.loads(names.dimension("acme", "t7", 0)) == {"tenant": "t7"}
    assert json.loads(names.dimension("other org", "late", 0)) == {"tenant": "late"}
    assert json.loads(names.dimension("acme", "late", DAY_MS)) == {"tenant": "late"}
