"""Command-line flags of configuration dataclasses, read by tyro; every mistake is a UsageError of one line.

A configuration class keeps old spellings alive for one release by a table of command-line words::

    deprecated_flags: ClassVar[Mapping[str, str]] = {
        "--exam-points": "--eval-points",
        "--policy schedule": "--policy belady",
    }

A key of one word renames a flag. A key of two words renames a value of a flag. Each old spelling prints one line.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast

from quatrain.errors import UsageError, unknown

Settings = TypeVar("Settings")


def parse_flags(
    kind: type[Settings], words: Sequence[str], *, prog: str, description: str, default: Settings | None = None
) -> Settings:
    """Return the dataclass `kind` that command-line words describe, over the values of `default`.

    Raises UsageError for any mistake. `--help` prints the flags and raises SystemExit(0).
    """
    import tyro
    from tyro import _errors  # tyro reports refusals as data only here; pyproject.toml limits its version

    settings: dict[str, Any] = {"prog": prog, "description": description}
    if default is not None:
        settings["default"] = default

    def refuse(event: _errors.ParseErrorEvent) -> NoReturn:
        raise _mistake(event, kind, sys.exc_info()[1]) from None

    with _errors.on_parse_error(refuse):
        markers = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
        return cast(Settings, tyro.cli(kind, args=list(words), config=markers, **settings))


def replace_deprecated(words: Sequence[str], table: Mapping[str, str]) -> list[str]:
    """Return command-line words in their current spelling, and print one line for each old spelling.

    `table` maps `--old` to `--new`, and `--flag old` to `--flag new` for a value of `--flag`.
    """
    current: list[str] = []
    used: dict[str, str] = {}

    def renamed(old: str) -> str:
        if old in table:
            used[old] = table[old]
        return table.get(old, old)

    flag = ""
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if name:
            flag = renamed(name.replace("_", "-"))
        if value:
            value = renamed(f"{flag} {value}").removeprefix(f"{flag} ")
        current.append(f"{flag}{equals}{value}" if name else value)
    for old, new in used.items():
        print(f"quatrain: {old} is deprecated and the next release removes it: use {new}", file=sys.stderr)
    return current


def deprecated_flags(configuration: type) -> Mapping[str, str]:
    """Return the table of old spellings of a configuration class; empty if it has none."""
    return cast("Mapping[str, str]", getattr(configuration, "deprecated_flags", {}))


def _mistake(event: Any, kind: type, cause: BaseException | None) -> UsageError:
    """Return the one-line error for a refusal that tyro reports."""
    from tyro import _errors

    if isinstance(event, _errors.UnrecognizedArgs):
        return unknown("flag", event.tokens[0], known_flags(kind))
    if isinstance(event, _errors.InvalidChoice):
        return unknown(f"choice for {_flag(event.argument)},", event.value, event.choices)
    if isinstance(event, _errors.BadValue):
        return UsageError(f"{_flag(event.argument)} needs a value: add it after the flag")
    if isinstance(event, _errors.MissingArgs):
        missing = ", ".join(_flag(item.arg) for item in event.missing_arguments)
        return UsageError(f"missing: {missing}; `{event.prog} --help` lists all flags")
    if isinstance(event, _errors.InstantiationFailure):
        group = _group(getattr(cause, "arg", ""), kind) if event.argument is None else f"{_flag(event.argument)}: "
        return UsageError(f"{group}{event.message}")
    return UsageError(f"the flags do not fit together; `{event.prog} --help` lists them")


def _flag(argument: Any) -> str:
    """Return a flag, or a positional argument's name, as the help text shows it."""
    return str(argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[0])


def _group(place: object, kind: type) -> str:
    """Return `--train: ` for the place `science.train` of a configuration that tyro could not make."""
    if not isinstance(place, str):
        return ""
    names, steps = [], [step for step in place.split(".") if step]
    for step in steps:
        field = next((item for item in dataclasses.fields(kind) if item.name == step), None) if kind else None
        if field is None or not dataclasses.is_dataclass(kind):
            return ""
        name, kind = _spelling(kind, field)
        names += [name] if name else []
    return f"--{'.'.join(names)}: " if names else ""


def known_flags(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield every flag of a configuration dataclass, those of nested dataclasses included."""
    for field in dataclasses.fields(kind):
        name, inner = _spelling(kind, field)
        path = ".".join(filter(None, [prefix, name]))
        if dataclasses.is_dataclass(inner):
            yield from known_flags(cast(type, inner), path)
        else:
            yield f"--{path}"


def _spelling(kind: type, field: dataclasses.Field[Any]) -> tuple[str, Any]:
    """Return a field's name on the command line, empty if its flags have no prefix, and its type."""
    import tyro

    hint = typing.get_type_hints(kind, include_extras=True)[field.name]
    if typing.get_origin(hint) is not typing.Annotated:
        return field.name.replace("_", "-"), hint
    inner, *notes = typing.get_args(hint)
    kind_of_note: Any = type(tyro.conf.arg())
    names = [note.name for note in notes if isinstance(note, kind_of_note) and note.name is not None]
    return (names[0] if names else field.name.replace("_", "-")), inner
