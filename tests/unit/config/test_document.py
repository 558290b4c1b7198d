"""YAML is read safely, and every value keeps its line."""

import pytest

from config.document import MOST_CHARACTERS, Unreadable, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10_000", 10_000), ("-5", -5), ("+5", 5), ("007", 7), ("yes", "yes"), ("on", "on"), ("NO", "NO"), ("true", True), ("False", False),
        ("~", None), ("2s", "2s"), ("5 GB", "5 GB"), ("1:30", "1:30"), ("0x10", "0x10"), ('"12"', "12"), ("'true'", "true"), ("1_", "1_"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), (".", "."), ("...x", "...x"), ("1.50", 1.5), ("1e3", 1000.0),
    ],
)  # fmt: skip
def test_plain_words_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    found = read(f"a: {text}")[0]["a"]
    assert (found, type(found) is bool) == (value, type(value) is bool)


def test_a_number_with_a_point_keeps_its_digits() -> None:
    assert read("a: 49.00")[0]["a"].text == "49.00"


def test_every_key_and_item_knows_its_line_and_path() -> None:
    value, _ = read("a:\n  b:\n    - 1\n    - c: 2\n")
    assert (value["a"].lines["b"], value["a"]["b"].lines, value["a"]["b"][1].lines["c"]) == (2, [3, 4], 4)
    assert value["a"]["b"][1].path == "a.b[1]"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "twice, first in line 1"),
        ("a: !!python/object:os.system x\n", 1, "tag"),
        ("a: 1\nb: !x {c: 1}\n", 2, "tag !x"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
    ],
)
def test_doubled_keys_tags_and_merges_are_refused_and_the_rest_is_read(text: str, line: int, said: str) -> None:
    value, skipped = read(text)
    assert [(fault.line, said in fault.message) for fault in skipped] == [(line, True)]
    assert "a" in value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x: 1\na: [1,\nb: 2", 2), ("a: 1\n  b: 2\n", 2), ("\ta: 1", 1), ("a: b: c", 1), ("a: 1\n--- \nb: 2\n", 2), ("a: &a [*a]", 1),
        ("a: *b", 1), ("? [a]\n: b", 1), ("a: 1\nb: \x07", 2), ("[" * 5_000, 1), ("a: {b: " * 40 + "1" + "}" * 40, 1), ("'", 1),
        ("%", 1), ("a: 'x\n", 1),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_where(text: str, line: int) -> None:
    with pytest.raises(Unreadable) as refused:
        read(text)
    assert refused.value.line == line


def test_aliases_cannot_grow_without_a_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(Unreadable, match="aliases"):
        read("\n".join(lines))


def test_an_alias_repeats_a_value_with_the_line_of_its_anchor_and_its_own_path() -> None:
    value, _ = read("a: &x {b: 1}\nc: *x\n")
    assert (value["c"], value["c"].path, value["c"].lines["b"]) == ({"b": 1}, "c", 1)


def test_a_file_of_endless_length_is_refused() -> None:
    with pytest.raises(Unreadable, match="characters"):
        read("# " + "x" * MOST_CHARACTERS)
