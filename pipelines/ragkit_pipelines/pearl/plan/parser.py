"""A recursive-descent parser for plans, which reports every mistake with its line and column.

Mistakes that have only one possible correction (curly quotes, a nested call, a missing number, …) are errors as well,
but ``repair`` corrects and lists them. Any other mistake makes the plan unusable.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from ragkit.errors import PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import DOCUMENT, MORE, Action, is_action_name, read_action
from ragkit_pipelines.pearl.plan.lexer import Lexer, Word, has_controls, similar_names
from ragkit_pipelines.pearl.plan.nodes import Argument, Ctx, Limits, Step, Text, TextList, Variable
from ragkit_pipelines.pearl.plan.validation import WHOLE_STEP, check_steps

_HEADER = "new actions:"
_FORM = '1. name = ACTION(CTX, "text") : purpose'

Parsed = tuple[tuple[Step, ...], tuple[Action, ...], tuple[Diagnostic, ...]]


def parse_steps(text: str, library: Iterable[Action], *, repair: bool, limits: Limits) -> Parsed:
    """Parse a plan; see `Plan.parse`."""
    parser = _Parser(library, repair=repair, limits=limits)
    parser.read(text)
    found = sorted(parser.found, key=lambda each: (each.line, each.column))
    if any(each.level == "error" for each in found):
        raise PlanError("the plan", found)
    return tuple(read.step for read in parser.steps), tuple(parser.new_actions.values()), tuple(found)


class _UnreadableError(Exception):
    """The rest of a line cannot be parsed; the reason has been reported."""


@dataclass(slots=True)
class _Read:
    """A step with the positions of its name and its arguments in the text."""

    step: Step
    line: int
    columns: tuple[int, ...]  # of the name, then of each argument


class _Parser:
    def __init__(self, library: Iterable[Action], *, repair: bool, limits: Limits) -> None:
        self.library, self.repair, self.limits = {action.name: action for action in library}, repair, limits
        self.found: list[Diagnostic] = []
        self.new_actions: dict[str, Action] = {}
        self.steps: list[_Read] = []
        self.unreadable: set[str] = set()
        self.unknown: set[str] = set()  # names of undefined actions
        self.line = 0
        self.numbered = 0  # number of step lines so far; steps made from nested calls have no line of their own

    def read(self, text: str) -> None:
        lines = self._lines(text)
        if lines is None:
            return
        for number, line in self._definitions(lines):
            self.line = number
            self.numbered += 1
            with suppress(_UnreadableError):
                self._step(Lexer(line))
            if max(self.numbered, len(self.steps)) > self.limits.steps:
                self._error("too-many-steps", f"too many steps; the limit is {self.limits.steps}", number, 0)
                return
        if not self.steps and not self.unreadable:
            self._error("no-steps", f"the plan has no step; expected lines such as {_FORM}", 0, 0)
        steps = [read.step for read in self.steps]
        check_steps(steps, self._where, self.found, unreadable=self.unreadable, unknown=self.unknown)
        used = {step.action.name for step in steps}
        for name in self.new_actions.keys() - used:
            self.found.append(Diagnostic("warning", "unused-action", f"no step uses the new action {name}"))

    def _where(self, index: int, at: int) -> tuple[int, int]:
        read = self.steps[index]
        return read.line, read.columns[0 if at == WHOLE_STEP else min(at + 1, len(read.columns) - 1)]

    def _error(self, code: str, message: str, line: int, column: int) -> None:
        self.found.append(Diagnostic("error", code, message, line, column))

    def _fail(self, code: str, message: str, word: Word) -> _UnreadableError:
        self._error(code, message, self.line, word.column)
        return _UnreadableError()

    def _slip(self, code: str, wrong: str, repaired: str, column: int, *, line: int | None = None) -> None:
        """Report a mistake, or, with ``repair``, its correction."""
        message = repaired if self.repair else wrong
        at = self.line if line is None else line
        self.found.append(Diagnostic("repair" if self.repair else "error", code, message, at, column))

    def _lines(self, text: str) -> list[tuple[int, str]] | None:
        """Split the text into its non-empty lines with their numbers, without code fences."""
        if len(text) > self.limits.characters:
            message = f"the plan has {len(text):,} characters; the limit is {self.limits.characters:,}"
            self._error("too-long", message, 0, 0)
            return None
        lines = []
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            if has_controls(line, "\t"):
                bad = next(at for at, letter in enumerate(line, 1) if has_controls(letter, "\t"))
                self._error("control-character", "control character; a plan must be plain text", number, bad)
                return None
            if line.lstrip().startswith("```"):
                self._slip("code-fence", "remove the code fence", "removed the code fence", 1, line=number)
            elif line.strip():
                lines.append((number, line))
        return lines

    def _definitions(self, lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Parse everything before the first step, and return the remaining lines."""
        headers = [at for at, (_, line) in enumerate(lines) if line.strip().lower() == _HEADER]
        if headers:
            start = headers[0]
        else:
            message = "the plan must begin with 'New actions:', followed by '- None' or by definitions of new actions"
            self._slip("no-new-actions", message, "added 'New actions: - None' before the plan", 0, line=0)
            start = next((at for at, (_, line) in enumerate(lines) if _looks_like_step(line)), 0)
        for number, _ in lines[:start]:
            self._slip("preamble", "remove all text before 'New actions:'", "removed the line", 1, line=number)
        at = start + bool(headers)
        while at < len(lines) and lines[at][1].lstrip().startswith("-"):
            self._definition(*lines[at])
            at += 1
        if headers and at == start + 1:
            message = "'New actions:' must be followed by '- None' or by a definition"
            self._slip("no-new-actions", message, "added '- None' below 'New actions:'", 0, line=lines[start][0])
        return lines[at:]

    def _definition(self, number: int, line: str) -> None:
        body = line.lstrip()[1:]
        if body.strip().rstrip(".").lower() == "none":
            return
        column = len(line) - len(body.lstrip()) + 1
        action = read_action(body, number, self.found, offset=len(line) - len(body))
        if action is None:
            return
        if action.name in self.new_actions:
            self._error("duplicate-action", f"{action.name} is defined twice", number, column)
        elif action.name in self.library:
            known = self.library[action.name]
            message = f"{action.name} is already in the list; use {known.signature}, or choose another name"
            if known.parameters == action.parameters:
                self._slip("hides-action", message, f"kept the listed meaning of {action.name}", column, line=number)
            else:
                self._error("hides-action", message, number, column)
        else:
            self.new_actions[action.name] = action

    def _step(self, lexer: Lexer) -> None:
        has_number = lexer.next.kind == "number"
        if has_number:
            self._number(lexer)
        name = lexer.take()
        if name.kind != "name":
            raise self._fail("not-a-step", f"not a step; write steps as {_FORM}", name)
        if not lexer.is_sign("="):
            raise self._fail("not-a-step", f"expected '=' after the name; write steps as {_FORM}", lexer.next)
        if not has_number:
            self._slip("no-number", f"a step must begin with its number: {_FORM}", "added the number of the step", 1)
        lexer.take()
        self.unreadable.add(name.value)
        called = lexer.take()
        if called.kind != "name":
            raise self._fail("no-call", f"expected the name of an action; write steps as {_FORM}", called)
        action = self._action(called)
        arguments, columns = self._arguments(lexer, action, name.value, depth=1)
        note = self._note(lexer, action)
        self.unreadable.discard(name.value)
        step = Step(name.value, action, tuple(arguments), note)
        self.steps.append(_Read(step, self.line, (name.column, *columns)))

    def _number(self, lexer: Lexer) -> None:
        word, sign = lexer.take(), lexer.next
        wrong = f"expected '.' after the number, got {sign.value!r}; write steps as {_FORM}"
        if sign.kind != "sign" or sign.value not in ".):":
            raise self._fail("number-sign", wrong, sign)
        if sign.value != ".":
            self._slip("number-sign", wrong, f"replaced {sign.value!r} after the number by '.'", sign.column)
        lexer.take()
        if word.value.lstrip("0") != str(self.numbered):
            message = f"this is step {self.numbered}, but it is numbered {word.value[:12]}; number the steps 1, 2, 3 …"
            self._error("wrong-number", message, self.line, word.column)

    def _action(self, word: Word) -> Action:
        action = self.new_actions.get(word.value)
        if action is None and word.value in self.library:
            action = self.library[word.value]
        if action is not None:
            return action
        close = similar_names(word.value.upper(), [*self.new_actions, *self.library])
        meant = f"did you mean {' or '.join(close)}? Otherwise " if close else ""
        message = f"there is no action {word.value[:60]}; {meant}define it under 'New actions:'"
        self._error("unknown-action", message, self.line, word.column)
        # A placeholder, so that the rest of the step can be checked.
        stand_in = word.value if is_action_name(word.value) else "_"
        self.unknown.add(stand_in)
        return Action(stand_in, (DOCUMENT, "S1", MORE), "Unknown.")

    def _arguments(self, lexer: Lexer, action: Action, out: str, depth: int) -> tuple[list[Argument], list[int]]:
        if not lexer.is_sign("("):
            raise self._fail("no-call", f"expected '(' after the action; write steps as {_FORM}", lexer.next)
        arguments: list[Argument] = []
        columns: list[int] = []
        while not arguments or lexer.is_sign(","):
            lexer.take()
            columns.append(lexer.next.column)
            fits = len(arguments) < len(action.parameters)
            parameter = action.parameter(len(arguments)) if fits or action.variadic else ""
            arguments.append(self._argument(lexer, parameter, out, depth))
            if len(arguments) > self.limits.arguments:
                message = f"too many arguments; the limit is {self.limits.arguments}"
                raise self._fail("too-many-values", message, lexer.next)
        self._close(lexer, ")")
        return arguments, columns

    def _close(self, lexer: Lexer, sign: str) -> None:
        if lexer.is_sign(sign):
            lexer.take()
            return
        word = lexer.next
        if word.kind in {"name", "number", "other", "text"}:
            raise self._fail("unquoted-text", f"unexpected {word.value[:60]!r}; write strings in double quotes", word)
        if word.kind == "sign" and word.value in ".-=":
            message = "expressions are not supported; pass a string, a variable or CTX"
            raise self._fail("expression", message, word)
        raise self._fail("missing-bracket", f"expected ',' or {sign!r}", word)

    def _argument(self, lexer: Lexer, parameter: str, out: str, depth: int) -> Argument:
        word = lexer.take()
        if word.kind == "name" and lexer.is_sign("="):
            wrong = f"keyword arguments are not supported; remove '{word.value[:60]} ='"
            if word.value != parameter:  # it may be meant for another parameter, so the correction is ambiguous
                raise self._fail("keyword", wrong, word)
            self._slip("keyword", wrong, f"removed '{parameter} ='", word.column)
            lexer.take()
            return self._argument(lexer, "", out, depth)
        if word.kind == "name" and lexer.is_sign("("):
            return self._nested(lexer, word, out, depth)
        if word.kind == "name":
            return Ctx() if word.value == DOCUMENT else Variable(word.value)
        if word.kind == "sign" and word.value == "[":
            return self._list(lexer, depth)
        if word.kind in {"text", "curly"}:
            return self._text(word)
        if word.kind == "number":
            wrong = f'write the number as a string: "{word.value}"'
            self._slip("number-value", wrong, "put the number in quotes", word.column)
            return Text(word.value)
        if word.kind == "single":
            raise self._fail("single-quotes", f'write strings in double quotes: "{word.value[:60]}"', word)
        if word.kind == "open_text":
            message = r"the string is not closed on its line, or contains an escape other than \" \\ \n \t \r"
            raise self._fail("open-text", message, word)
        got = "the end of the line" if word.kind == "end" else repr(word.value)
        raise self._fail("no-value", f"expected CTX, a variable or a string in double quotes, got {got}", word)

    def _text(self, word: Word) -> Text:
        if word.kind == "curly":
            self._slip("curly-quotes", 'use straight quotes: "…"', "replaced the curly quotes", word.column)
        if len(word.value) > self.limits.literal:
            message = f"the string has {len(word.value):,} characters; the limit is {self.limits.literal}"
            raise self._fail("long-text", message, word)
        return Text(word.value)

    def _list(self, lexer: Lexer, depth: int) -> TextList:
        if depth >= self.limits.depth:
            message = f"brackets are nested too deeply; the limit is {self.limits.depth} levels"
            raise self._fail("too-deep", message, lexer.next)
        found: list[Text | Variable] = []
        while not found or lexer.is_sign(","):
            if found:
                lexer.take()
            word = lexer.take()
            if word.kind in {"text", "curly"}:
                found.append(self._text(word))
            elif word.kind == "name" and word.value != DOCUMENT:
                found.append(Variable(word.value))
            else:
                raise self._fail("list-item", "a list may contain only strings in double quotes and variables", word)
            if len(found) > self.limits.arguments:
                message = f"too many items in a list; the limit is {self.limits.arguments}"
                raise self._fail("too-many-values", message, word)
        self._close(lexer, "]")
        return TextList(tuple(found))

    def _nested(self, lexer: Lexer, word: Word, out: str, depth: int) -> Variable:
        """Move a nested call to a step of its own, before the step that uses it."""
        wrong = f"nested calls are not supported; move {word.value[:60]}(…) to a step of its own"
        if depth >= self.limits.depth:
            raise self._fail("too-deep", f"{wrong} (limit: {self.limits.depth} levels)", word)
        action = self._action(word)
        arguments, columns = self._arguments(lexer, action, out, depth + 1)
        name = self._free_name(out)
        self._slip("nested-call", wrong, f"moved {action.name}(…) to a step of its own, {name}", word.column)
        step = Step(name, action, tuple(arguments), action.text)
        self.steps.append(_Read(step, self.line, (word.column, *columns)))
        return Variable(name)

    def _free_name(self, out: str) -> str:
        taken = {read.step.out for read in self.steps}
        return next(name for n in range(1, 1000) if (name := f"{out}_part{n}") not in taken)

    def _note(self, lexer: Lexer, action: Action) -> str:
        note = ""
        if lexer.is_sign(":"):
            lexer.take()
            note = lexer.rest()
        elif lexer.next.kind != "end":
            raise self._fail("after-call", "expected ' : ' and the purpose of the step", lexer.next)
        if not note:
            message = "the purpose of the step is missing; write it after ' : '"
            self._slip("no-note", message, "used the description of the action as the purpose", lexer.next.column)
        return note or action.text


def _looks_like_step(line: str) -> bool:
    lexer = Lexer(line)
    if lexer.next.kind == "number":
        return True
    return lexer.take().kind == "name" and lexer.is_sign("=")
