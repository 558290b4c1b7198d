"""Mail over a real socket: what arrives, what each answer of a server means, and what happens when a connection breaks."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from billing.channels.message import SenderFaulty, compose, sender
from billing.channels.smtp import SmtpChannel, Tls
from billing.model.mail_delivery import Answer, message_id
from billing.services.ports_mail import MailServerUnreachable

from .conftest import CUT, NOW_MS, SENDER, MailServer, channel_to, listen, post


async def test_a_mail_arrives_with_both_its_parts_and_its_names(keeper: MailServer, channel: SmtpChannel) -> None:
    text = "Größe: 5 €\n.\n..two dots\n" + "x" * 2000 + "\n"
    async with channel.session() as session:
        assert await session.send(
            post(
                name="Jürgen Groß, “Acme”", subject="[Acme] Zahlung fehlgeschlagen für Größe", text=text, html="<p>Größe</p>", language="de"
            )
        ) == (Answer.ACCEPTED, "")
    [envelope] = keeper.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("billing@acme.example", ["alice@example.com"])
    mail = keeper.parsed()
    assert mail["subject"] == "[Acme] Zahlung fehlgeschlagen für Größe"
    assert mail["to"].addresses[0].display_name == "Jürgen Groß, “Acme”"
    assert (mail["from"], mail["reply-to"]) == ("Acme Billing <billing@acme.example>", "help@acme.example")
    assert (mail["message-id"], mail["content-language"]) == (message_id("payment_failed:in_1:1", "acme.example"), "de")
    assert parsedate_to_datetime(mail["date"]) == datetime.fromtimestamp(NOW_MS / 1000, UTC)
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().replace("\r\n", "\n") == text
    assert html.get_content().strip() == "<p>Größe</p>"
    assert isinstance(envelope.content, bytes)
    assert envelope.content.isascii()
    assert max(map(len, envelope.content.split(b"\r\n"))) < 998


async def test_several_mails_take_one_connection(keeper: MailServer, channel: SmtpChannel) -> None:
    async with channel.session() as session:
        for number in range(3):
            assert (await session.send(post(identifier=f"m:{number}")))[0] is Answer.ACCEPTED
    assert (len(keeper.taken), keeper.connections) == (3, 1)


ANSWERS = [
    ("rcpt", "550 5.1.1 no such user", Answer.REFUSED, "550 5.1.1 no such user"),
    ("rcpt", "451 4.7.1 greylisted", Answer.DEFERRED, "451 4.7.1 greylisted"),
    ("data", "554 5.7.1 looks like spam", Answer.REFUSED, "554 5.7.1 looks like spam"),
    ("data", "452 4.3.1 disk full", Answer.DEFERRED, "452 4.3.1 disk full"),
    ("data", CUT, Answer.AMBIGUOUS, "the connection broke before the server's answer"),
]


@pytest.mark.parametrize(("step", "says", "answer", "told"), ANSWERS)
async def test_an_answer_means_what_the_rfc_says(
    keeper: MailServer, channel: SmtpChannel, step: str, says: str, answer: Answer, told: str
) -> None:
    getattr(keeper, step).append(says)
    async with channel.session() as session:
        found, said = await session.send(post())
        assert found is answer
        assert said.startswith(told)
        assert keeper.taken == []
        assert (await session.send(post(identifier="next")))[0] is Answer.ACCEPTED  # whatever came before


async def test_a_server_that_ends_the_connection_is_connected_to_again(keeper: MailServer, channel: SmtpChannel) -> None:
    keeper.rcpt.append("421 too much at once")
    async with channel.session() as session:
        assert (await session.send(post()))[0] is Answer.DEFERRED
        assert (await session.send(post()))[0] is Answer.ACCEPTED
    assert keeper.connections == 2


async def test_nobody_at_the_port_is_told_in_a_sentence(keeper: MailServer) -> None:
    keeper.port = 1
    with pytest.raises(MailServerUnreachable, match=r"The mail server 127.0.0.1:1 does not answer: .*refused"):
        async with channel_to(keeper).session():
            pass


async def test_a_server_without_starttls_is_not_talked_to_in_the_clear(keeper: MailServer) -> None:
    with pytest.raises(MailServerUnreachable, match="does not offer STARTTLS"):
        async with channel_to(keeper, tls=Tls.STARTTLS).session():
            pass
    assert keeper.taken == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    from ipaddress import ip_address

    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def contexts(certificate: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    serves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serves.load_cert_chain(certificate)
    return serves, ssl.create_default_context(cafile=str(certificate))


async def test_a_login_goes_over_tls_only(certificate: Path) -> None:
    keeper, (serves, trusts) = MailServer(), contexts(certificate)
    server = await listen(keeper, tls_context=serves, authenticator=keeper.authenticate, auth_required=True)
    for password, refused in (("secret", False), ("wrong", True)):
        channel = channel_to(keeper, tls=Tls.STARTTLS, trust=trusts, username="acme", password=password)
        if refused:
            with pytest.raises(MailServerUnreachable, match=r"cannot be used: 535") as found:
                async with channel.session():
                    pass
            assert password not in str(found.value)
        else:
            async with channel.session() as session:
                assert (await session.send(post()))[0] is Answer.ACCEPTED
    assert keeper.logins == [b"acme"] * 3  # the wrong password by two mechanisms
    server.close()


async def test_tls_from_the_first_byte(certificate: Path) -> None:
    keeper, (serves, trusts) = MailServer(), contexts(certificate)
    server = await listen(keeper, wrapped=serves)
    async with channel_to(keeper, tls=Tls.TLS, trust=trusts).session() as session:
        assert (await session.send(post()))[0] is Answer.ACCEPTED
    server.close()


async def test_a_server_that_nobody_vouches_for_gets_nothing(certificate: Path) -> None:
    keeper, (serves, _) = MailServer(), contexts(certificate)
    server = await listen(keeper, tls_context=serves, authenticator=keeper.authenticate)
    with pytest.raises(MailServerUnreachable, match="certificate verify failed"):
        async with channel_to(keeper, tls=Tls.STARTTLS, username="acme", password="secret").session():
            pass
    assert keeper.logins == []
    server.close()


@pytest.mark.parametrize("field", ["subject", "name", "language"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_line_end_in_a_header_is_refused(field: str, end: str) -> None:
    with pytest.raises(ValueError, match=r"linefeed or carriage return|invalid|CR|LF"):
        compose(post(**{field: f"x{end}Bcc: eve@example.com"}), SENDER, NOW_MS)


@pytest.mark.parametrize("text", ["", "billing", "a@b, c@d", "x\r\nBcc: y@z", "Acme <billing@acme.example", "a b@c"])
def test_a_sender_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(SenderFaulty, match="is no sender"):
        sender(text, product="Acme")


def test_an_offer_says_how_to_get_no_more_of_them() -> None:
    assert compose(post(unsubscribable=True), SENDER, NOW_MS)["List-Unsubscribe"] == "<mailto:help@acme.example?subject=unsubscribe>"
    assert compose(post(), SENDER, NOW_MS)["List-Unsubscribe"] is None
