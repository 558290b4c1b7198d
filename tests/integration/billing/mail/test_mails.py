"""The mail outbox over real rows and a real mail server: what is due goes out once, whoever sends it and whatever breaks."""

import asyncio
from dataclasses import dataclass, replace

import asyncpg
import pytest

from billing.channels.smtp import SmtpChannel
from billing.model.letters.letter import House
from billing.model.letters.samples import sample
from billing.model.mail import MailKind
from billing.model.mail_delivery import MOST_ATTEMPTS, Answer, MailState, Post, Verdict
from billing.services.logs import MailLog
from billing.services.mails import Mails
from billing.services.ports_mail import MailServerUnreachable
from tests.integration.billing.conftest import Desk

from .conftest import CUT, KEEP_AND_CUT, MailServer, channel_to

DAY_S = 86_400
_SENT = Verdict(state=MailState.SENT)
HOUSE = House(product="Acme", public_url="https://acme.example", support="help@acme.example")


@dataclass
class Office:
    desk: Desk
    mails: Mails
    keeper: MailServer
    org_id: str

    async def write(self, kind: MailKind = MailKind.PAYMENT_FAILED, identifier: str = "one", **changed: object) -> None:
        now_ms = self.desk.clock.now_ms()
        mail = replace(sample(kind), org_id=self.org_id, identifier=identifier, due_ms=now_ms, **changed)  # type: ignore[arg-type]
        async with self.desk.books.transaction() as unit:
            await unit.mails.add([mail], now_ms)

    async def row(self, identifier: str = "one") -> asyncpg.Record:
        found = await self.desk.pool.fetchrow("SELECT * FROM billing.mails WHERE identifier = $1", identifier)
        assert found is not None
        return found

    async def state(self, identifier: str = "one") -> tuple[str, int]:
        row = await self.row(identifier)
        return row["state"], row["attempts"]


def mails_over(desk: Desk, channel: SmtpChannel | None) -> Mails:
    return Mails(desk.books, channel, desk.clock, house=HOUSE, jitter=lambda: 0.0)


@pytest.fixture
async def office(sold: Desk, keeper: MailServer, channel: SmtpChannel) -> Office:
    org = (await sold.billing.orgs.create("Größe & Co", plan="pro", email="alice@example.com")).org
    return Office(sold, mails_over(sold, channel), keeper, org.id)


async def test_what_is_due_goes_out_once(office: Office) -> None:
    await office.write()
    report = await office.mails.send_due()
    assert report.states == {"sent": 1}
    assert await office.state() == ("sent", 1)
    assert office.keeper.taken[0].rcpt_tos == ["alice@example.com"]
    assert office.keeper.parsed()["to"].addresses[0].display_name == "Größe & Co"
    assert (await office.mails.send_due()).states == {}
    assert len(office.keeper.taken) == 1


async def test_a_customer_is_written_to_by_name_in_its_language(office: Office) -> None:
    await office.desk.pool.execute("UPDATE billing.customers SET name = 'Jürgen', language = 'de-AT'")
    await office.write()
    await office.mails.send_due()
    mail = office.keeper.parsed()
    assert mail["subject"] == "[Acme] Zahlung fehlgeschlagen - bitte handeln"
    assert mail["to"].addresses[0].display_name == "Jürgen"
    plain = mail.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().startswith("Guten Tag Jürgen,")


async def test_what_is_not_due_waits(office: Office) -> None:
    await office.write(identifier="later")
    await office.desk.pool.execute("UPDATE billing.mails SET due_at = due_at + interval '1 day' WHERE identifier = 'later'")
    await office.mails.send_due()
    assert await office.state("later") == ("waiting", 0)
    office.desk.clock.advance(DAY_S)
    await office.mails.send_due()
    assert await office.state("later") == ("sent", 1)


async def test_several_senders_at_once_send_each_mail_once(office: Office, channel: SmtpChannel) -> None:
    for number in range(12):
        await office.write(identifier=f"mail {number}")
    reports = await asyncio.gather(*(mails_over(office.desk, channel).send_due() for _ in range(3)))
    assert sum(report.states["sent"] for report in reports) == 12
    assert len({office.keeper.parsed(n)["message-id"] for n in range(len(office.keeper.taken))}) == len(office.keeper.taken) == 12


async def test_a_recipient_who_is_refused_is_dead_with_the_servers_words(office: Office) -> None:
    office.keeper.rcpt.append("550 5.1.1 no such user")
    await office.write()
    assert (await office.mails.send_due()).states == {"dead": 1}
    row = await office.row()
    assert (row["state"], row["last_error"]) == ("dead", "550 5.1.1 no such user")


async def test_a_server_that_says_later_is_tried_later(office: Office) -> None:
    office.keeper.rcpt += ["451 4.7.1 greylisted"]
    await office.write()
    assert (await office.mails.send_due()).states == {"retried": 1}
    assert (await office.mails.send_due()).states == {}  # not at once
    office.desk.clock.advance(60)
    assert (await office.mails.send_due()).states == {"sent": 1}
    assert await office.state() == ("sent", 2)


@pytest.mark.parametrize("breaks", [CUT, KEEP_AND_CUT])
async def test_a_mail_that_may_have_been_taken_goes_again_under_the_same_id(office: Office, breaks: str) -> None:
    office.keeper.data.append(breaks)
    await office.write()
    assert (await office.mails.send_due()).states == {"retried": 1}
    office.desk.clock.advance(60)
    assert (await office.mails.send_due()).states == {"sent": 1}
    assert len({office.keeper.parsed(n)["message-id"] for n in range(len(office.keeper.taken))}) == 1


class Killed(BaseException):
    """As a process that dies there."""


class DiesBehind:
    """A session whose process dies when the server has the mail."""

    def __init__(self, channel: SmtpChannel) -> None:
        self._channel = channel

    def session(self):  # type: ignore[no-untyped-def]
        return self

    async def __aenter__(self) -> "DiesBehind":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def send(self, post: Post) -> tuple[Answer, str]:
        async with self._channel.session() as session:
            await session.send(post)
        raise Killed


async def test_a_process_killed_behind_the_text_leaves_a_mail_that_comes_back(office: Office, channel: SmtpChannel) -> None:
    await office.write()
    with pytest.raises(Killed):
        await Mails(office.desk.books, DiesBehind(channel), office.desk.clock, house=HOUSE).send_due()
    assert await office.state() == ("waiting", 1)
    assert (await office.mails.send_due()).states == {}  # its claim still stands
    office.desk.clock.advance(600)
    assert (await office.mails.send_due()).states == {"sent": 1}
    assert len({office.keeper.parsed(n)["message-id"] for n in range(2)}) == 1


async def test_while_the_server_is_away_no_attempt_is_counted(office: Office) -> None:
    await office.write()
    with pytest.raises(MailServerUnreachable):
        await mails_over(office.desk, channel_to(MailServer(port=1))).send_due()
    assert await office.state() == ("waiting", 0)
    assert (await office.mails.send_due()).states == {"sent": 1}


async def test_too_many_attempts_are_the_last(office: Office) -> None:
    await office.write()
    await office.desk.pool.execute("UPDATE billing.mails SET attempts = $1", MOST_ATTEMPTS - 1)
    office.keeper.data.append("452 4.3.1 disk full")
    assert (await office.mails.send_due()).states == {"dead": 1}
    assert (await office.row())["last_error"] == f"given up after {MOST_ATTEMPTS} attempts; the last: 452 4.3.1 disk full"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (None, "the customer has no mail address"),
        ("alice@example.com\r\nRCPT TO:<eve@example.com>", "the customer's mail address cannot be one"),
        ("a@b.example, c@d.example", "the customer's mail address cannot be one"),
    ],
)
async def test_a_mail_to_nobody_is_dropped_with_the_reason(office: Office, address: str | None, reason: str) -> None:
    await office.desk.pool.execute("UPDATE billing.customers SET email = $1", address)
    await office.write()
    await office.write(identifier="two")
    assert (await office.mails.send_due()).states == {"dropped": 2}
    assert (await office.row())["last_error"] == reason
    assert office.keeper.taken == []


async def test_a_mail_goes_to_the_address_it_names(office: Office) -> None:
    await office.write(to="billing@example.com")
    await office.mails.send_due()
    assert office.keeper.taken[0].rcpt_tos == ["billing@example.com"]


async def test_a_mail_nobody_can_write_holds_up_no_other(office: Office) -> None:
    await office.write(identifier="faulty", facts={"plan": "Pro"})
    await office.write(identifier="good")
    report = await office.mails.send_due()
    assert report.states == {"dead": 1, "sent": 1}
    assert (await office.row("faulty"))["last_error"].startswith("it cannot be written: the mail lacks")


async def test_without_a_server_mails_wait_a_week(office: Office) -> None:
    silent = mails_over(office.desk, None)
    await office.write()
    assert (await silent.send_due()).unconfigured == 1
    office.desk.clock.advance(7 * DAY_S + 1)
    report = await silent.send_due()
    assert (report.states, report.unconfigured) == ({"dropped": 1}, 0)
    assert "SMTP_HOST" in (await office.row())["last_error"]


async def test_what_is_a_week_late_is_not_told_any_more(office: Office) -> None:
    await office.write()
    office.desk.clock.advance(7 * DAY_S + 1)
    assert (await office.mails.send_due()).states == {"dropped": 1}
    assert office.keeper.taken == []


async def test_a_mail_dropped_while_it_goes_out_was_sent(office: Office) -> None:
    await office.write()
    async with office.desk.books.transaction() as unit:
        claimed = await unit.mails.claim(office.desk.clock.now_ms(), office.desk.clock.now_ms() + 1000)
        assert claimed is not None
        assert await unit.mails.drop(office.org_id, list(MailKind), office.desk.clock.now_ms()) == 1
        assert await unit.mails.finish(claimed, _SENT, office.desk.clock.now_ms())
    assert await office.state() == ("sent", 1)


async def test_a_claim_that_ran_out_has_no_say(office: Office) -> None:
    await office.write()
    now_ms = office.desk.clock.now_ms()
    async with office.desk.books.transaction() as unit:
        first = await unit.mails.claim(now_ms, now_ms + 1000)
        second = await unit.mails.claim(now_ms + 1000, now_ms + 2000)
        assert first is not None
        assert second is not None
        assert not await unit.mails.finish(first, _SENT, now_ms)
        assert await unit.mails.finish(second, _SENT, now_ms)


async def test_the_newest_are_listed_by_organization_and_state(office: Office) -> None:
    await office.write(identifier="one")
    await office.mails.send_due()
    await office.write(identifier="two", kind=MailKind.INVOICE_READY)
    log = MailLog(office.desk.books)
    found = await log.newest()
    assert [(row.mail.identifier, row.state) for row in found] == [("two", "waiting"), ("one", "sent")]
    assert [row.mail.identifier for row in await log.newest(found[0].mail.org_id, MailState.SENT)] == ["one"]
