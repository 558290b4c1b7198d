"""A letter as HTML. Pure; the only place where a letter's texts meet markup, and every one of them is escaped here.

Mail programs know little: tables for the layout, styles on the elements, no picture, nothing fetched, so nothing tells who
read it. What a program makes of a dark screen is left to it.
"""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from billing.model.letters.letter import Action, Block, Code, Letter, Points, Table, Text, Tone

_COLOURS = {Tone.PLAIN: "#2457d6", Tone.GOOD: "#18794e", Tone.URGENT: "#c0362c"}
_FONT = "font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_PAGE = """\
<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{subject}</title>
</head>
<body style="margin:0;padding:0;background:#eef0f3">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="background:#eef0f3"><tr><td align="center" style="padding:32px 12px">
<table role="presentation" width="560" cellpadding="0" cellspacing="0" style="width:100%;max-width:560px;background:#ffffff;border-radius:8px;border-top:4px solid {colour};{font};font-size:15px;line-height:1.55;color:#1d2430">
<tr><td style="padding:28px 36px 0;font-size:14px;font-weight:600;color:#5b6472">{product}</td></tr>
<tr><td style="padding:6px 36px 0"><h1 style="margin:0;font-size:21px;line-height:1.35;font-weight:650;color:#11161f">{subject}</h1></td></tr>
<tr><td style="padding:20px 36px 8px">
{body}
</td></tr>
<tr><td style="padding:0 36px 30px">{closing}</td></tr>
</table>
<table role="presentation" width="560" cellpadding="0" cellspacing="0" style="width:100%;max-width:560px"><tr><td style="padding:16px 36px;{font};font-size:12px;line-height:1.5;color:#5b6472">{small}</td></tr></table>
</td></tr></table>
</body>
</html>
"""  # noqa: E501  one element a line, as mail programs cut nothing there
_GAP = "margin:0 0 16px"


def as_html(letter: Letter, product: str) -> str:
    colour = _COLOURS[letter.tone]
    return _PAGE.format(
        language=letter.language,
        subject=escape(letter.subject),
        product=escape(product),
        colour=colour,
        font=_FONT,
        body="\n".join([_paragraph(letter.greeting), *_body(letter.body, colour)]),
        closing="<br>".join(map(escape, letter.closing)),
        small=escape(letter.small),
    )


def _body(blocks: Sequence[Block], colour: str) -> Iterator[str]:
    """Actions that follow one another stand side by side, the first of them filled."""
    for pressed, group in groupby(blocks, key=lambda block: isinstance(block, Action)):
        if pressed:
            buttons = [_button(each, colour, filled=not n) for n, each in enumerate(group) if isinstance(each, Action)]
            yield f'<p style="{_GAP}">{" &nbsp; ".join(buttons)}</p>'
        else:
            yield from (_block(block) for block in group)


def _button(action: Action, colour: str, *, filled: bool) -> str:
    look = f"background:{colour};color:#ffffff" if filled else f"background:#ffffff;color:{colour}"
    style = (
        f"display:inline-block;padding:10px 20px;border:1px solid {colour};border-radius:6px;font-weight:600;text-decoration:none;{look}"
    )
    return f'<a href="{escape(action.url or "")}" style="{style}">{escape(action.label)}</a>'


def _block(block: Block) -> str:
    match block:
        case Text(text=text):
            return _paragraph(text)
        case Table(rows=rows):
            return _table(rows)
        case Points():
            return _points(block)
        case Code(label=label, code=code):
            box = "display:inline-block;padding:8px 14px;border:1px dashed #8b93a1;border-radius:6px;font:600 17px monospace"
            return f'<p style="{_GAP}">{escape(label)}<br><span style="{box};margin-top:8px;letter-spacing:1px">{escape(code)}</span></p>'
        case Action():
            raise AssertionError("actions are grouped")


def _paragraph(text: str) -> str:
    return f'<p style="{_GAP}">{escape(text)}</p>'


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    name, value = "padding:8px 16px 8px 0;color:#5b6472;white-space:nowrap;vertical-align:top", "padding:8px 0;font-weight:600"
    lines = []
    for position, (label, told) in enumerate(rows):
        rule = "" if position == 0 else ";border-top:1px solid #e3e6ea"
        lines.append(f'<tr><td style="{name}{rule}">{escape(label)}</td><td width="99%" style="{value}{rule}">{escape(told)}</td></tr>')
    frame = "margin:0 0 18px;padding:4px 16px;background:#f6f7f9;border-radius:6px"
    return f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="{frame}">{"".join(lines)}</table>'


def _points(points: Points) -> str:
    tag = "ol" if points.numbered else "ul"
    title = f'<p style="margin:0 0 6px;font-weight:600">{escape(points.title)}</p>' if points.title else ""
    items = "".join(f'<li style="margin:0 0 5px">{escape(item)}</li>' for item in points.items)
    return f'{title}<{tag} style="margin:0 0 18px;padding-left:22px">{items}</{tag}>'
