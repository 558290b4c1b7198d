"""GraphQL on control: the guide's documents as they stand, whom rows belong to, what one document may ask for."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from billing.api.graphql import resolvers, streams
from billing.api.server import application
from billing.model.token import Scope

from .conftest import Desk
from .test_tokens import bearer, parts_of, token

CURRENT_USAGE = """
# Get current usage for organization
query GetOrganizationUsage($orgId: uuid!) {
  billing_usage_current(
    where: { org_id: { _eq: $orgId } }
  ) {
    service
    current_usage
    quota
    percentage_used
    status
    updated_at
  }
}
"""

REVENUE = """
# Real-time revenue dashboard
query RevenueMetrics($orgId: uuid!) {
  # Current MRR
  mrr: billing_subscriptions_aggregate(
    where: {
      org_id: { _eq: $orgId }
      status: { _eq: "active" }
    }
  ) {
    aggregate {
      sum {
        amount
      }
    }
  }

  # New customers this month
  new_customers: billing_customers_aggregate(
    where: {
      org_id: { _eq: $orgId }
      created_at: { _gte: "2026-01-01" }
    }
  ) {
    aggregate {
      count
    }
  }

  # Churn rate
  churned: billing_subscriptions_aggregate(
    where: {
      org_id: { _eq: $orgId }
      canceled_at: {
        _gte: "2026-01-01"
        _lte: "2026-01-31"
      }
    }
  ) {
    aggregate {
      count
    }
  }

  # Usage trends
  usage_trend: billing_usage_events(
    where: { org_id: { _eq: $orgId } }
    order_by: { timestamp: asc }
    limit: 30
  ) {
    date: timestamp
    service
    quantity
  }
}
"""


@pytest.fixture
async def api(sold: Desk) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(application(parts_of(sold)))) as client:
        yield client


async def raw(api: TestClient, text: str, query: str) -> str:
    return await (await api.post("/graphql", json={"query": query}, headers=bearer(text))).text()


async def ask(api: TestClient, text: str, query: str, *, org: str | None = None, **variables: Any) -> dict[str, Any]:
    params = {"org": org} if org else {}
    answer = await api.post("/graphql", json={"query": query, "variables": variables}, params=params, headers=bearer(text))
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


async def used(desk: Desk, org_id: str, *quantities: int) -> None:
    for minute, quantity in enumerate(quantities):
        await desk.pool.execute(
            """INSERT INTO billing.usage_events ("timestamp", period_start, org_id, service, quantity, route_id, method, key_id)
            VALUES (timestamptz '2026-01-29T10:00Z' + $3 * interval '1 minute', '2026-01-01Z', $1, 'api', $2, 0, 'GET', 0)""",
            org_id, quantity, minute,
        )  # fmt: skip


async def test_the_guides_usage_document_answers_as_it_stands(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    _, everything = await token(sold, None)
    for text in (acme.api_key, everything):
        data = (await ask(api, text, CURRENT_USAGE, orgId=acme.org.id))["data"]
        assert data["billing_usage_current"] == [
            {
                "service": name, "current_usage": 0, "quota": quota, "percentage_used": 0, "status": "ok",
                "updated_at": "2026-01-31T12:00:00Z",
            }
            for name, quota in (("api", 200_000), ("bandwidth", 100))
        ]  # fmt: skip


async def test_whole_figures_are_written_as_whole_numbers(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    assert '"quota": 200000}' in await raw(api, acme.api_key, "{ billing_usage_current(where: {quota: {_gt: 100.5}}) { quota } }")


async def test_the_guides_revenue_document_answers_as_it_stands(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    await used(sold, acme.org.id, 7, 11)
    _, text = await token(sold, "acme")
    assert (await ask(api, text, REVENUE, orgId=acme.org.id)) == {
        "data": {
            "mrr": {"aggregate": {"sum": {"amount": "49"}}},
            "new_customers": {"aggregate": {"count": 1}},
            "churned": {"aggregate": {"count": 0}},
            "usage_trend": [
                {"date": "2026-01-29T10:00:00Z", "service": "api", "quantity": 7},
                {"date": "2026-01-29T10:01:00Z", "service": "api", "quantity": 11},
            ],
        }
    }


async def test_a_credential_of_one_organization_finds_no_row_of_another_whatever_it_asks(sold: Desk, api: TestClient) -> None:
    acme, bolt = [await sold.billing.orgs.create(name, plan="pro") for name in ("Acme", "Bolt")]
    await used(sold, bolt.org.id, 5)
    _, text = await token(sold, "acme", Scope.ADMIN)
    for credential in (acme.api_key, text):
        assert (await ask(api, credential, CURRENT_USAGE, orgId=bolt.org.id))["data"] == {"billing_usage_current": []}
        data = (await ask(api, text, REVENUE, orgId=bolt.org.id))["data"]
        assert (data["mrr"]["aggregate"]["sum"]["amount"], data["usage_trend"]) == (None, [])
        assert data["new_customers"]["aggregate"]["count"] == 0
        everything = "{ " + " ".join(
            f"{name}: billing_{name}(where: {{_or: [{{}}, {{_not: {{org_id: {{_is_null: true}}}}}}]}}) {{ org_id }}"
            for name in ("customers", "subscriptions", "usage_events", "usage_daily", "invoices")
        ) + " }"  # fmt: skip
        rows = (await ask(api, text, everything))["data"]
        assert {row["org_id"] for those in rows.values() for row in those} == {acme.org.id}
        for query in ("{ usage { current } }", "{ billing_subscriptions { id } }", "{ billing_usage_current { service } }"):
            said = await ask(api, credential, query, org="bolt")
            assert (said["errors"][0]["extensions"]["status"], "Bolt" in str(said)) == (404, False)
    _, everybody = await token(sold, None)
    assert len((await ask(api, everybody, "{ billing_customers { org_id } }"))["data"]["billing_customers"]) == 2
    assert len((await ask(api, everybody, "{ billing_customers { org_id } }", org="bolt"))["data"]["billing_customers"]) == 1


async def test_the_guides_queries_and_mutations_do_what_the_operations_do(sold: Desk, api: TestClient) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    _, text = await token(sold, "acme", Scope.BILLING)
    query = """{ usage(service: "api") { service current quota percentage status }
                 quota { service remaining mode window reset_at }
                 subscription { plan { name price } status currency }
                 invoices(limit: 5, status: PAID) { id total status lines { amount } } }"""
    assert (await ask(api, text, query))["data"] == {
        "usage": [{"service": "api", "current": 0, "quota": 10_000, "percentage": 0, "status": "OK"}],
        "quota": [
            {"service": "api", "remaining": 10_000, "mode": "HARD", "window": "PERIOD", "reset_at": "2026-02-28T12:00:00Z"},
        ],
        "subscription": {"plan": {"name": "free", "price": "0"}, "status": "active", "currency": "usd"},
        "invoices": [],
    }
    changed = await ask(api, text, 'mutation { upgradeSubscription(plan: "pro") { plan { name price } status } }')
    assert changed["data"]["upgradeSubscription"] == {"plan": {"name": "pro", "price": "49"}, "status": "active"}
    ended = await ask(api, text, "mutation { cancelSubscription { status ends ended } }")
    assert ended["data"]["cancelSubscription"] == {"status": "active", "ends": "2026-02-28T12:00:00Z", "ended": False}
    refused = await ask(api, text, 'mutation { addPaymentMethod(token: "4242") { id } }')
    assert (refused["data"], refused["errors"][0]["extensions"]["code"]) == (None, "bad_input")


async def test_a_refusal_says_its_code_and_a_key_that_only_reads_changes_nothing(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="free")
    said = await ask(api, acme.api_key, 'mutation { upgradeSubscription(plan: "pro") { id } }')
    assert (said["data"], said["errors"][0]["extensions"]["code"]) == (None, "scope_missing")
    said = await ask(api, acme.api_key, '{ usage(service: "nothing") { current } }')
    assert said["errors"][0]["extensions"] == {"code": "no_such_service", "status": 404, "details": {"service": "nothing"}}
    mutation = {"query": "mutation { cancelSubscription { id } }"}
    assert (await api.get("/graphql", params=mutation, headers=bearer(acme.api_key))).status == 405
    assert (await api.post("/graphql", json=mutation)).status == 401


async def test_an_api_key_sees_of_tables_what_it_sees_elsewhere(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    _, text = await token(sold, "acme")
    for field in ("billing_customers { name }", "billing_invoices { id }", "invoices { id }",
                  "billing_customers_aggregate { nodes { id } }",
                  "billing_invoices_aggregate { aggregate { count } }"):  # fmt: skip
        said = await ask(api, acme.api_key, f"{{ {field} }}")
        assert (said["data"] or {}).get("billing_customers") is None
        assert said["errors"][0]["extensions"]["code"] == "token_wanted", field
        assert "errors" not in await ask(api, text, f"{{ {field} }}")


async def test_rows_are_ordered_paged_and_added_up_by_the_database(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    await used(sold, acme.org.id, 3, 1, 2, 10)
    query = """query ($at: timestamptz, $few: [bigint!]) {
      paged: billing_usage_events(order_by: [{quantity: desc_nulls_last}], limit: 2, offset: 1) { quantity }
      some: billing_usage_events(where: {_or: [{quantity: {_in: $few}}, {timestamp: {_gt: $at}}]}, order_by: {quantity: asc}) { quantity }
      other: billing_usage_events(where: {_not: {quantity: {_nin: [1, 2]}}, method: {_neq: "PUT"}}) { quantity }
      all: billing_usage_events_aggregate { aggregate { count sum { quantity } avg { quantity } min { quantity } max { timestamp } }
                                            nodes { service } }
      now: billing_usage_current(order_by: {service: desc}, limit: 1, where: {quota: {_gte: 1}, status: {_in: ["ok"]}}) { service }
    }"""
    data = (await ask(api, acme.api_key, query, at="2026-01-29T10:02:30+00:00", few=[1]))["data"]
    assert [row["quantity"] for row in data["paged"]] == [3, 2]
    assert [row["quantity"] for row in data["some"]] == [1, 10]
    assert sorted(row["quantity"] for row in data["other"]) == [1, 2]
    figures = data["all"]["aggregate"]
    assert (figures["count"], figures["sum"], figures["min"]) == (4, {"quantity": 16}, {"quantity": 1})
    assert (float(figures["avg"]["quantity"]), figures["max"]) == (4.0, {"timestamp": "2026-01-29T10:03:00Z"})
    assert (data["all"]["nodes"], data["now"]) == ([{"service": "api"}] * 4, [{"service": "bandwidth"}])


NESTED = "{_not: " * 12 + "{}" + "}" * 12
TOO_MUCH = [
    ("{" + "a" * 20_001 + "}", "more than"),
    ("{" + " usage { service }" * 1_001 + "}", "tokens"),
    ("{" + " ".join(f"a{n}: usage {{ service }}" for n in range(21)) + "}", "fields of the root"),
    ("query { " + "...a " * 9 + "} " + " ".join(f"fragment {c} on Query {{ {f'...{d} ' * 9 if d else 'usage { service }'} }}"
     for c, d in zip("abcdef", ["b", "c", "d", "e", "f", ""], strict=True)), "fields of the root"),
    ("{ " + " ".join(f"a{n}: billing_usage_events(limit: 1000) {{ id org_id service quantity }}" for n in range(13)) + " }", "lower limit"),
    (
        "query ($n: Int = 1000) { "
        + " ".join(f"a{n}: billing_usage_events(limit: $n) {{ id org_id service quantity }}" for n in range(13))
        + " }",
        "lower limit",
    ),
    ("{ billing_usage_events_aggregate(limit: 1001) { aggregate { count } } }", "1,000"),
    (f"{{ billing_customers(where: {NESTED}) {{ id }} }}", "deeper than"),
    ("{ billing_customers(where: " + "{_not: " * 600 + "{}" + "}" * 600 + ") { id } }", ""),
    ("{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }", "ntrospection"),
    ("{ billing_plans { name } }", "Cannot query field"),
    ('{ billing_customers(where: {org_id: {_eq: "x"}}) { id } }', "is no uuid"),
    ('{ billing_customers(where: {name: {_eq: "\\u0000"}}) { id } }', "not text"),
    ("{ billing_customers(limit: -1) { id } }", "limit"),
    ("{ billing_customers(offset: -1) { id } }", "offset"),
    ('{ billing_customers(where: {created_at: {_gt: "0001-01-01T00:00+14:00"}}) { id } }', "is no timestamptz"),
    ("{ billing_usage_events(where: {id: {_gt: 9223372036854775808}}) { id } }", "is no bigint"),
    ("query a { usage { unit } } query b { usage { unit } }", "operationName"),
    ("{", "Syntax Error"),
    ("fragment a on Query { ...a } { ...a }", "itself"),
]  # fmt: skip


async def test_a_document_that_asks_for_too_much_or_for_nonsense_is_refused_and_not_carried_out(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="free")
    for query, why in TOO_MUCH:
        said = await ask(api, acme.api_key, query)
        first = said["errors"][0]
        assert why in first["message"], (query[:100], said)
        assert not said.get("data"), query[:100]
        assert first["extensions"]["status"] < 500, said
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"_not": deep}
    said = await ask(api, acme.api_key, "query ($w: billing_customers_bool_exp) { billing_customers(where: $w) { id } }", w=deep)
    assert said["errors"][0]["extensions"]["status"] == 400


async def test_a_request_that_cannot_be_read_is_a_problem_and_a_new_client_is_told_by_the_status(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="free")
    for body, kind, status in (
        (b"{", "application/json", 400), (b"[]", "application/json", 400), (b"{}", "application/json", 400),
        (b'{"query": 1}', "application/json", 400), (b'{"query": "{a}", "variables": []}', "application/json", 400),
        (b"{ usage { unit } }", "application/graphql", 415), (b"\xff", "application/json", 400),
        (b'{"query":' + b"[" * 30_000, "application/json", 400),
    ):  # fmt: skip
        answer = await api.post("/graphql", data=body, headers={**bearer(acme.api_key), "Content-Type": kind})
        assert (answer.status, answer.content_type) == (status, "application/problem+json"), body[:40]
    modern = {**bearer(acme.api_key), "Accept": "application/graphql-response+json"}
    for query, status in (("{ nothing }", 400), ("{ subscription { status } }", 200), ('{ usage(service: "no") { unit } }', 200)):
        answer = await api.get("/graphql", params={"query": query}, headers=modern)
        assert (answer.status, answer.content_type) == (status, "application/graphql-response+json")
        assert ("data" in await answer.json()) is (status == 200)


async def test_the_schema_is_told_to_who_asks(sold: Desk, api: TestClient) -> None:
    from graphql import build_client_schema, get_introspection_query

    acme = await sold.billing.orgs.create("Acme", plan="free")
    told = await ask(api, acme.api_key, get_introspection_query())
    assert {"uuid", "UsageStatus", "billing_usage_current_bool_exp"} <= build_client_schema(told["data"]).type_map.keys()


async def test_a_subscription_tells_usage_at_once_and_as_it_changes(sold: Desk, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolvers, "LOOK_SECONDS", 0.01)
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    _, text = await token(sold, "acme", Scope.BILLING)
    query = {"query": 'subscription { usage(service: "api") { current } }'}
    events = {**bearer(acme.api_key), "Accept": "text/event-stream"}
    async with api.post("/graphql", json=query, headers=events) as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        assert await stream.content.readuntil(b"\n\n") == b'event: next\ndata: {"data": {"usage": [{"current": 0.0}]}}\n\n'
        words = {"service": "api", "quantity": 3}
        assert (await api.post("/api/v1/billing/usage/record", json=words, headers=bearer(text))).status == 201
        assert await stream.content.readuntil(b"\n\n") == b'event: next\ndata: {"data": {"usage": [{"current": 3.0}]}}\n\n'
    assert (await api.post("/graphql", json=query, headers=bearer(acme.api_key))).status == 406
    unknown = {"query": 'subscription { usage(service: "nothing") { current } }'}
    said = await (await api.post("/graphql", json=unknown, headers=events)).text()
    assert ('"code": "no_such_service"' in said, said.endswith("event: complete\ndata:\n\n")) == (True, True)


async def test_a_stream_ends_after_a_while_and_there_are_not_too_many(sold: Desk, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolvers, "LOOK_SECONDS", 0)
    monkeypatch.setattr(resolvers, "MOST_LOOKS", 2)
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    events = {**bearer(acme.api_key), "Accept": "text/event-stream"}
    query = {"query": "subscription { usage { service } }"}
    said = await (await api.post("/graphql", json=query, headers=events)).text()
    assert (said.count("event: next"), said.count("event: complete")) == (1, 1)
    monkeypatch.setattr(streams, "MOST", 0)
    assert (await api.post("/graphql", json=query, headers=events)).status == 503
