"""The settings file ``ragkit.toml``: defaults for the options of all commands."""

from __future__ import annotations

import inspect
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from typer.models import OptionInfo

from ragkit.errors import DataFileError

NAME = "ragkit.toml"
VARIABLE = "RAGKIT_CONFIG"
LISTS = {"choices", "input", "retriever", "seeds", "sizes", "strategies", "vary"}  # texts separated by commas
_SPECS = {"adapter", "base", "embedder", "model", "other"}  # texts that may contain a path
_NEVER = {"version", "yes"}  # a file must not confirm what a person should look at
_SECRET = re.compile(r"(api[-_]?key|secret|password|passwd|credential|token)s?$", re.IGNORECASE)
_HEADER = re.compile(r"\s*\[\s*([\w.\"' -]+?)\s*\]")
_ENTRY = re.compile(r"\s*([\w.\"' -]+?)\s*=")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command: the name and the type of its parameter, and the values that it accepts."""

    name: str
    kind: type
    many: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None

    def expected(self, key: str) -> str:
        """Describe the values that it accepts."""
        if self.choices:
            return f"one of {', '.join(map(_shown, self.choices))}"
        between = f" from {self.least} to {self.most}" if self.most is not None else f" of at least {self.least}"
        limits = between if self.least is not None else ""
        kinds = {bool: "true or false", int: f"an integer{limits}", float: f"a number{limits}"}
        one = kinds.get(self.kind, "a text in quotation marks")
        return f"{one}, or a list of them" if self.many or key in LISTS else one

    def accepts(self, value: object) -> bool:
        """Whether a single value of a file has the right type and is within the limits."""
        if self.kind in {int, float}:
            numbers = (int, float) if self.kind is float else (int,)
            if not isinstance(value, numbers) or isinstance(value, bool):
                return False
            return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        return isinstance(value, bool if self.kind is bool else str) and (not self.choices or value in self.choices)


@dataclass(frozen=True, slots=True)
class Commands:
    """The options of a command by their keys in a file, and its subcommands by name."""

    options: Mapping[str, Option]
    below: Mapping[str, Commands] = field(default_factory=dict)

    def keys(self) -> set[str]:
        """Return the keys of the options of the command and of all its subcommands."""
        return set(self.options).union(*(each.keys() for each in self.below.values()))


def options_of(function: Callable[..., object]) -> dict[str, Option]:
    """Return the options that a command's function declares, by their keys: their names without hyphens in front."""
    found: dict[str, Option] = {}
    for name, parameter in inspect.signature(inspect.unwrap(function), eval_str=True).parameters.items():
        annotation, *notes = get_args(parameter.annotation) or (None,)
        info = next((note for note in notes if isinstance(note, OptionInfo)), None)
        if get_origin(parameter.annotation) is not Annotated or info is None:
            continue
        declared = (info.default, *(info.param_decls or ()))  # in an annotation, the first name is the default
        spellings = [each for each in declared if isinstance(each, str) and each.startswith("--")]
        spellings = spellings or [f"--{name.replace('_', '-')}"]
        option = _option(name, annotation, info)
        found |= {each.removeprefix("--"): option for each in spellings}
    return {key: option for key, option in found.items() if key not in _NEVER}


def _option(name: str, annotation: Any, info: OptionInfo) -> Option:
    kinds = [annotation]
    if get_origin(annotation) in {Union, UnionType}:
        kinds = [each for each in get_args(annotation) if each is not NoneType]
    many = get_origin(kinds[0]) is list
    kind = get_args(kinds[0])[0] if many else kinds[0]
    choices = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
    return Option(name, str if choices else kind, many, choices, info.min, info.max)


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file that was read."""

    path: Path
    text: str
    tables: Mapping[str, Any]

    @classmethod
    def find(cls, given: Path | None) -> SettingsFile | None:
        """Read the given file, or that of ``RAGKIT_CONFIG``, or ``ragkit.toml`` of the current folder if it exists.

        Raises:
            DataFileError: If the file cannot be read or is not valid TOML.
        """
        chosen = given or (Path(text) if (text := os.environ.get(VARIABLE)) else None)
        if chosen is None and not os.path.lexists(NAME):
            return None
        path = chosen or Path(NAME)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            problem = f"cannot be read ({error.strerror}); expected a settings file, such as `ragkit init` writes"
            raise DataFileError(path, 0, problem) from error
        except UnicodeDecodeError as error:
            raise DataFileError(path, 0, f"byte {error.start} is not valid UTF-8; save the file as UTF-8") from error
        try:
            return cls(path, text, tomllib.loads(text))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else len(text.splitlines())
            said = re.sub(r" \(at .*\)$", "", str(error)).partition("\n")[0]
            raise DataFileError(path, line, f'is not valid TOML: {said}; expected key = "value"') from error

    def defaults(self, words: Sequence[str], commands: Commands) -> dict[str, object]:
        """Return the settings of a command by the names of its parameters.

        Settings of the table of a command take precedence over those of the table of its group, and these over those at
        the top of the file.

        Args:
            words: The words of the command, such as ``["index", "build"]``.
            commands: All commands.

        Raises:
            DataFileError: If a key of the file is unknown, or if a value does not suit the command.
        """
        self._check(self.tables, commands, ())
        found: dict[str, object] = {}
        for depth in range(len(words) + 1):
            table, command = self.tables, commands
            for word in words[:depth]:
                table = table.get(word, {})
            for word in words:
                command = command.below[word]
            for key, value in table.items() if isinstance(table, dict) else ():
                option = command.options.get(key)
                if option is not None and not isinstance(value, dict):
                    found[option.name] = self._value(option, (*words[:depth], key), value)
        return found

    def _check(self, table: Mapping[str, Any], commands: Commands, words: tuple[str, ...]) -> None:
        """Raise an error if a key is unknown or if a value is a secret."""
        keys = commands.keys()
        for key, value in table.items():
            place = (*words, key)
            if _SECRET.search(key) and key not in keys:
                self._refuse(
                    place,
                    f"`{key}` does not belong in a settings file, which others may read; store the key in an "
                    'environment variable, and give the name of the variable: api-key-env = "OPENAI_API_KEY"',
                )
            if isinstance(value, dict) and key in commands.below:
                self._check(value, commands.below[key], place)
            elif key not in keys:
                known = keys | (set(commands.below) if isinstance(value, dict) else set())
                close = get_close_matches(key, sorted(known), n=1)
                meant = f" Did you mean `{close[0]}`?" if close else ""
                command = " ".join(["ragkit", *words])
                self._refuse(
                    place, f"unknown key `{key}`.{meant} Keys are options without `--`; see `{command} --help`"
                )
            elif isinstance(value, dict):
                self._refuse(place, f"`{key}` is an option and not a command; write {key} = …")
            else:
                self._check_secrets(place, value)

    def _check_secrets(self, place: tuple[str, ...], value: object) -> None:
        from ragkit_pipelines.compare.private import without_secrets

        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and without_secrets(text) != text:
                self._refuse(
                    place,
                    f"`{place[-1]}` contains a key or a password; store it in an environment variable, and give the "
                    "name of the variable as api-key-env",
                )

    def _value(self, option: Option, place: tuple[str, ...], value: object) -> object:
        """Return the value of an option, or raise an error if its type is wrong."""
        key = place[-1]
        values: list[Any] = value if isinstance(value, list) and (option.many or key in LISTS) else [value]
        if key in LISTS:
            values = [str(each) if type(each) is int else each for each in values]
        if not all(map(option.accepts, values)):
            close = get_close_matches(str(value), option.choices, n=1)
            meant = f". Did you mean {_shown(close[0])}?" if close else ""
            self._refuse(place, f"`{key}` must be {option.expected(key)}, got {_shown(value)}{meant}")
        if option.kind is Path:
            values = [str(self.path.parent / each) for each in values]
        elif key in _SPECS:
            values = [self._with_path(each) for each in values]
        if option.many:
            return values
        return ",".join(values) if key in LISTS else values[0]

    def _with_path(self, spec: str) -> str:
        """Make the path in a spec such as ``hf:runs/banking`` relative to the file, if it exists there."""
        kind, colon, name = spec.rpartition(":")
        if self.path.parent == Path() or not name or not (self.path.parent / name).exists():
            return spec
        return f"{kind}{colon}{self.path.parent / name}"

    def _refuse(self, place: tuple[str, ...], problem: str) -> NoReturn:
        raise DataFileError(self.path, _line_of(self.text, place), problem)


def _shown(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _line_of(text: str, place: tuple[str, ...]) -> int:
    """Return the line on which a key or a table stands; 0 if it is written in another form."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = tuple(_parts(header[1]))
            if table == place:
                return number
        elif (entry := _ENTRY.match(line)) and (*table, *_parts(entry[1])) == place:
            return number
    return 0


def _parts(key: str) -> Iterator[str]:
    return (part.strip().strip("\"'") for part in key.split("."))
