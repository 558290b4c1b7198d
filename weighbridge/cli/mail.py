"""`weighbridge mail`: what went out and what waits, how a mail looks, whether the mail server takes one."""

import argparse
from typing import Any

from billing.channels.wiring import house_of, open_channel
from billing.model.letters import LANGUAGES
from billing.model.mail import MailKind
from billing.model.mail_delivery import Answer, MailState, undeliverable
from billing.operations import mails as operations
from billing.services.mails import sample_post
from metering.model.errors import BadInput, DependencyUnavailable

from .context import Context, add_folders
from .output import row_of, say, show, show_list
from .pages import ask_pages
from .verbs import nouns_verbs, typed, verb

_COLUMNS = ("id", "kind", "org", "state", "due", "attempts", "closed", "error")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "mail", "mails to customers: list, preview, test")
    about = "what was sent, waits, was dropped or could not be sent; newest first"
    listed = verb(verbs, "list", about, list_mails, org=False, example="weighbridge mail list --state waiting")
    listed.add_argument("--org", metavar="ORG", help="of one organization")
    listed.add_argument("--state", choices=[state.value for state in MailState])
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    about = "how a mail reads, with facts made up for it"
    preview = verbs.add_parser("preview", help=about, description=about)
    typed(preview, "weighbridge mail preview payment_failed --language de")
    preview.add_argument("kind", choices=[kind.value for kind in MailKind], metavar="KIND", help=", ".join(kind.value for kind in MailKind))
    preview.add_argument("--language", choices=sorted(LANGUAGES), default="en", help="default: en")
    preview.add_argument("--format", choices=("text", "html", "json"), default="text", help="default: text")
    about = "send one mail now, by the SMTP settings"
    test = verb(verbs, "test", about, test_mail, org=False, example="weighbridge mail test alice@example.com")
    test.add_argument("address")
    test.add_argument("--kind", choices=[kind.value for kind in MailKind], default=MailKind.TRIAL_WELCOME.value, metavar="KIND")
    test.add_argument("--language", choices=sorted(LANGUAGES), default="en", help="default: en")
    add_folders(preview)
    preview.set_defaults(run=preview_mail)


async def list_mails(options: argparse.Namespace, context: Context) -> int:
    if options.limit < 1:
        raise BadInput("--limit is at least 1")
    found = await ask_pages(context, operations.list_all, operations.AskMails(state=options.state), "mails", most=options.limit)
    show_list(found, [row_of(row) for row in found.mails], _COLUMNS, options, empty="No mails.")
    return 0


async def preview_mail(options: argparse.Namespace, context: Context) -> int:
    """Here it takes no database."""
    ask = operations.AskPreview(kind=MailKind(options.kind), language=options.language)
    if context.own_settings.token is not None:
        post = await context.ask(operations.preview, ask)
    else:
        post = operations.previewed(ask, house_of(context.settings), context.clock.now_ms())
    if options.format == "html":
        say(post.html.rstrip())
    elif options.format == "json":
        show(post.model_dump(mode="json"), options)
    else:
        say(f"Subject: {post.subject}", "", post.text.rstrip())
    return 0


async def test_mail(options: argparse.Namespace, context: Context) -> int:
    """Exit code 1 where the server did not take it."""
    if undeliverable(options.address, deleted=False, kind=MailKind.INVOICE_READY):
        raise BadInput(f"{options.address!r} cannot be a mail address")
    channel = open_channel(context.settings, context.clock)
    if channel is None:
        raise DependencyUnavailable("SMTP_HOST is not set, so no mail goes out; docs/mail.md lists what to set")
    house, now_ms = house_of(context.settings), context.clock.now_ms()
    post = sample_post(MailKind(options.kind), options.language, house, to=options.address, now_ms=now_ms)
    async with channel.session() as session:
        answer, said = await session.send(post)
    taken = answer is Answer.ACCEPTED
    lines = [f"{context.settings.smtp_host} took it for {options.address}" if taken else f"{options.address}: {answer}: {said}"]
    show({"answer": answer.value, "said": said}, options, lines=lines)
    return 0 if taken else 1
