"""Upstreams as they are written: short and long forms, what is refused and with which sentence."""

import pytest

from config.gateway import Ejection, Health, Queue, Tls, Upstream
from config.gateway_read import parse_gateway
from config.upstreams import upstream_facts

from .samples import files, gateway_with


def parsed(words: str):
    return parse_gateway(files(gateway_with(upstreams=f"  app: {{{words}}}")))


def upstream(words: str) -> Upstream:
    config = parsed(words).config
    assert config is not None
    return config.upstreams["app"]


ONE = "targets: ['http://a']"


def test_what_is_left_out_has_a_default():
    assert upstream(ONE) == Upstream(
        name="app", targets=("http://a",), weights=(), balance="round_robin", health=None,
        ejection=Ejection(failures=5, base_s=10, most_s=300), max_connections=512, queue=Queue(most=1000), tls=Tls(), host="preserve",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "fact", "value"),
    [
        ("targets: ['http://a', {url: 'http://b:81/', weight: 3}]", "targets", ("http://a", "http://b:81")),
        ("targets: ['http://a', {url: 'http://b:81/', weight: 3}]", "weights", (1, 3)),
        ("targets: [{url: 'http://a', weight: 3}, {url: 'http://b', weight: 3}]", "weights", ()),
        ("targets: ['unix:/run/app.sock', 'unix:///run/b.sock', 'http://[::1]:80']", "targets",
         ("unix:/run/app.sock", "unix:/run/b.sock", "http://[::1]:80")),
        (f"{ONE}, balance: least_connections", "balance", "least_connections"),
        (f"{ONE}, health: /up", "health", Health(path="/up")),
        (f"{ONE}, health: none", "health", None),
        (f"{ONE}, health: {{path: /up, interval: 1s, timeout: 500ms, healthy: 1, unhealthy: 5, status: 204}}", "health",
         Health(path="/up", interval_s=1, timeout_s=0.5, healthy=1, unhealthy=5, lowest_status=204, highest_status=204)),
        (f"{ONE}, health: {{path: /up, status: 200-299}}", "health", Health(path="/up", lowest_status=200, highest_status=299)),
        (f"{ONE}, ejection: none", "ejection", None),
        (f"{ONE}, ejection: {{failures: 2, base: 1s, most: 1m, count_5xx: true}}", "ejection",
         Ejection(failures=2, base_s=1, most_s=60, count_5xx=True)),
        (f"{ONE}, ejection: {{base: 1h}}", "ejection", Ejection(base_s=3600, most_s=3600)),
        (f"{ONE}, max_connections: 5", "max_connections", 5),
        (f"{ONE}, queue: {{most: 0, timeout: 1s}}", "queue", Queue(most=0, timeout_s=1)),
        ("targets: ['https://a'], tls: {server_name: b, verify: false}", "tls", Tls(server_name="b", verify=False)),
        ("targets: ['https://a'], tls: {ca: /dev/null, client_cert: /dev/null, client_key: /dev/null}", "tls",
         Tls(ca="/dev/null", client_cert="/dev/null", client_key="/dev/null")),
    ],
)  # fmt: skip
def test_words_become_facts(words, fact, value):
    assert getattr(upstream(words), fact) == value


@pytest.mark.parametrize(
    ("words", "path", "said"),
    [
        ("targets: ['ftp://a']", "targets[0]", "no target"),
        ("targets: ['localhost:9000']", "targets[0]", "http://127.0.0.1:9000"),
        ("targets: ['http://[::1']", "targets[0]", "no target"),
        ("targets: ['http://a b']", "targets[0]", "no target"),
        ("targets: ['http://a:0']", "targets[0]", "1 to 65535"),
        ("targets: ['http://a:99999']", "targets[0]", "1 to 65535"),
        ("targets: ['http://u:p@a']", "targets[0]", "user and password"),
        ("targets: ['http://a/v1']", "targets[0]", "path behind the host"),
        ("targets: ['unix:app.sock']", "targets[0]", "whole path"),
        ("targets: [9000]", "targets[0]", "no target"),
        ("targets: [[1]]", "targets[0]", "mapping"),
        ("targets: [{weight: 2}]", "targets[0]", "`url` is missing"),
        ("targets: [{url: 'http://a', weight: 0}]", "targets[0].weight", "at least 1"),
        ("targets: [{url: 'http://a', weight: 101}]", "targets[0].weight", "at most 100"),
        ("targets: [{url: 'http://a', wieght: 1}]", "targets[0].wieght", "did you mean `weight`"),
        ("targets: ['http://a', 'http://a/']", "targets[1]", "weight: 2"),
        ("targets: []", "targets", "at least one"),
        (f"{ONE}, weight: 3", "weight", "belongs to a target"),
        (f"{ONE}, balance: random", "balance", "round_robin or least_connections"),
        (f"{ONE}, health: up", "health", "no path"),
        (f"{ONE}, health: {{path: /up, status: 400-200}}", "health.status", "200-399"),
        (f"{ONE}, health: {{path: /up, interval: none}}", "health.interval", "needs an end"),
        (f"{ONE}, health: {{interval: 1s}}", "health", "`path` is missing"),
        (f"{ONE}, ejection: {{failures: 0}}", "ejection.failures", "at least 1"),
        (f"{ONE}, ejection: never", "ejection", "mapping"),
        (f"{ONE}, max_connections: 0", "max_connections", "at least 1"),
        (f"{ONE}, queue: 5", "queue", "mapping"),
        (f"{ONE}, tls: {{verify: true}}", "tls", "no target begins with https://"),
        ("targets: ['https://a'], tls: {ca: ca.pem}", "tls.ca", "whole path"),
        ("targets: ['https://a'], tls: {client_key: /k}", "tls.client_key", "client_cert too"),
        ("targets: ['https://a'], tls: {ca: /c, verify: false}", "tls.verify", "never be looked at"),
        ("targets: ['https://a'], tls: {server_name: 'a b'}", "tls.server_name", "no name"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_to_do(words, path, said):
    found = parsed(words).faults
    assert [fault.path for fault in found] == [f"upstreams.app.{path}"]
    assert said in found[0].message


@pytest.mark.parametrize(
    ("words", "path", "said"),
    [("verify: false", "verify", "pose as the service"), ("ca: /nowhere/ca.pem", "ca", "no file /nowhere/ca.pem")],
)
def test_what_is_risky_is_warned_of(words, path, said):
    (warning,) = parsed(f"targets: ['https://a'], tls: {{{words}}}").warnings
    assert warning.path == f"upstreams.app.tls.{path}"
    assert said in warning.message


def test_every_word_is_a_fact_that_a_change_is_told_by():
    before = upstream_facts(upstream("targets: ['https://a', 'https://b']"))
    after = upstream_facts(
        upstream(
            "targets: ['https://a', {url: 'https://b', weight: 2}], balance: least_connections, health: /up, ejection: none,"
            " max_connections: 1, queue: {timeout: 1s}, tls: {server_name: c}, host: upstream"
        )
    )
    assert all(before[name] != after[name] for name in before)
    assert after["targets"] == "https://a, https://b (2)"
