from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import pytest
import tyro

from quatrain.errors import UsageError
from quatrain.hpc.flags import deprecated_flags, known_flags, parse_flags, replace_deprecated


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    eval_points: int = 3

    def __post_init__(self):
        if self.eval_points < 1:
            raise ValueError(f"eval_points is {self.eval_points}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    deprecated_flags: ClassVar[Mapping[str, str]] = {
        "--exam-points": "--search.eval-points",
        "--rule": "--policy",
        "--policy schedule": "--policy belady",
        "--compare counts": "--compare lfu",
    }
    policy: Literal["belady", "lfu"] = "lfu"
    compare: tuple[str, ...] = ()
    search: Search = field(default_factory=Search)
    inner: Annotated[Search, tyro.conf.arg(name="")] = field(default_factory=Search)


def parse(words, capsys):
    parsed = parse_flags(
        Settings, replace_deprecated(words.split(), deprecated_flags(Settings)), prog="trial", description=""
    )
    return parsed, capsys.readouterr().err


@pytest.mark.parametrize("words", ["--exam-points 7", "--exam-points=7", "--exam_points 7"])
def test_an_old_flag_sets_the_new_one_and_prints_one_line(words, capsys):
    parsed, printed = parse(words, capsys)

    assert parsed.search.eval_points == 7
    assert printed == (
        "quatrain: --exam-points is deprecated and the next release removes it: use --search.eval-points\n"
    )


@pytest.mark.parametrize("words", ["--policy schedule", "--policy=schedule", "--rule=schedule", "--rule schedule"])
def test_an_old_value_becomes_the_new_one(words, capsys):
    parsed, printed = parse(words, capsys)

    assert parsed.policy == "belady"
    assert "--policy schedule is deprecated" in printed


def test_each_value_of_a_list_is_replaced_and_each_old_spelling_printed_once(capsys):
    parsed, printed = parse("--compare counts belady counts", capsys)

    assert parsed.compare == ("lfu", "belady", "lfu")
    assert printed.count("\n") == 1


def test_current_spellings_print_nothing(capsys):
    assert parse("--policy belady --compare schedule", capsys)[1] == ""


def test_every_flag_is_known_by_its_name_on_the_command_line():
    assert list(known_flags(Settings)) == ["--policy", "--compare", "--search.eval-points", "--eval-points"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--polcy lfu", "there is no flag '--polcy': did you mean '--policy'?"),
        ("--policy lru", "there is no choice for --policy, 'lru': did you mean 'lfu'?"),
        ("--policy", "--policy needs a value: add it after the flag"),
        ("--search.eval-points 0", "--search: eval_points is 0; it must be at least 1"),
        ("--search.eval-points few", "--search.eval-points: invalid literal for int() with base 10: 'few'"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(UsageError) as caught:
        parse(words, capsys)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_argument_is_named():
    @dataclass(frozen=True, kw_only=True)
    class Trace:
        trace: tyro.conf.Positional[str]

    with pytest.raises(UsageError, match=r"^missing: "):
        parse_flags(Trace, [], prog="trial", description="")
