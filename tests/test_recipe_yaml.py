"""Strict YAML 1.2: values, line numbers, refusals, and text that reads back exactly."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_transfer.errors import RecipeError
from nlp_transfer.recipe.yaml import MAX_DEPTH, dump_data, read_text, scalar


def refused(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_text(text, "x.yaml")
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("true", True),
        ("False", False),
        ("3e-4", 3e-4),
        ("3E4", 3e4),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2", -2),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("null", None),
        ("", None),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("e5", "e5"),
        (".", "."),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)
    read, _ = read_text(f"key: {text}\n", "x.yaml")
    assert read == {"key": value}


def test_quoted_values_are_text() -> None:
    value, _ = read_text("a: '1'\nb: \"true\"\nc: |\n  3\n", "x.yaml")
    assert value == {"a": "1", "b": "true", "c": "3\n"}


def test_lines_of_key_paths() -> None:
    _, line = read_text("a: 1\nb:\n  c:\n    - x\n    - d: 2\n", "x.yaml")
    assert line(("a",)) == 1
    assert line(("b", "c", 1, "d")) == 5
    assert line(("b", "c", 1, "absent", "deeper")) == 5
    assert line(()) == 1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is repeated; it stands in line 1"),
        ("a:\n  b: {c: 1, c: 2}\n", 2, "'c' is repeated"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag"),
        ("a: !!int '3'\n", 1, "tag"),
        ("a:\n\tb: 1\n", 2, "Indent with spaces"),
        ("a: b: c\n", 1, "indentation"),
        ('a: "C:\\data"\n', 1, "single quotes"),
        ("a: [1", 1, "not valid YAML"),
        ("a: @x\n", 1, "quotes"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("a: *nowhere\n", 1, "no anchor"),
        ("a: &x [1, *x]\n", 1, "inside it"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
        ("? [a, b]\n: 1\n", 1, "a key must be plain text"),
        ('a: "\\UFFFFFFFF"\n', 1, "not valid YAML"),
        ("a: \x07\n", 1, "not valid YAML"),
    ],
)
def test_refused_yaml_names_the_line(text: str, line: int, words: str) -> None:
    message = refused(text)
    assert message.startswith(f"x.yaml:{line}: ")
    assert words in message
    assert "\n" not in message


def test_aliases_are_copies() -> None:
    value, _ = read_text("a: &x {b: [1]}\nc: *x\n", "x.yaml")
    assert value == {"a": {"b": [1]}, "c": {"b": [1]}}
    value["a"]["b"].append(2)
    assert value["c"] == {"b": [1]}


def test_alias_bomb_and_depth_are_refused_quickly() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "aliases are expanded" in refused(bomb)
    assert f"more than {MAX_DEPTH} levels" in refused("[" * 100_000)


def test_dump_data_reads_back_exactly() -> None:
    text = [
        "a b ",
        " a",
        "- x",
        "a\nb\n",
        "tab\there",
        "it's",
        '"',
        "\\",
        "\x85\u2028",
        "😀",
        "a" * 300,
        "y",
        "...",
    ]
    text += [
        "---",
        "2024-01-01",
        "12:30",
        "0x1F",
        "1_000",
        "~",
        "!x",
        "&a",
        "*a",
        "%",
        "@",
        "`",
        "a #b",
        "=",
        "<<",
    ]
    data = {word: word for word in text} | {
        "list": text,
        "numbers": [1e-5, 5e-05, 1.0, 0, -3, 1e300],
        "empty": [],
    }
    data |= {"nothing": None, "flags": [True, False], "deep": {"a": {}, "b": [{"c": [1, [2]]}]}}
    again, _ = read_text(dump_data(data), "x.yaml")
    assert again == data
    assert [type(item) for item in again["numbers"]] == [type(item) for item in data["numbers"]]
