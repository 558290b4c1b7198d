"""docs/subscriptions.md shows the tables of the model as they are."""

from pathlib import Path

from billing.model.subscription import PERMITS, STANDINGS, TRANSITIONS, Permit, State

PAGE = (Path(__file__).parents[3] / "docs" / "subscriptions.md").read_text(encoding="utf-8")


def transitions() -> list[str]:
    return [f"| {state or '–'} | {event} | {to} |" for (state, event), to in TRANSITIONS.items()]


def states() -> list[str]:
    return [f"| {state} | {STANDINGS[state]} | {', '.join(p for p in Permit if p in PERMITS[state]) or '–'} |" for state in State]


def test_the_page_shows_every_transition_and_no_other() -> None:
    assert rows_behind("| from | event | to |") == transitions()


def test_the_page_shows_what_each_state_entitles_to_and_allows() -> None:
    assert rows_behind("| state | entitles to | allows |") == states()


def rows_behind(header: str) -> list[str]:
    lines = PAGE.split(header + "\n")[1].splitlines()[1:]
    return lines[: lines.index("")]
