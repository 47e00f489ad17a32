"""Reading a plan: line by line, by recursive descent, with every problem named.

A slip that can be read in one way only (curly quotes, a nested call, a missing number, …) is an error too, but with
``repair`` it is mended and listed. Everything else ends the plan.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches

from ragkit.errors import PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import DOCUMENT, MORE, Action, is_action_name
from ragkit_pipelines.pearl.plan.definitions import read_action
from ragkit_pipelines.pearl.plan.lexer import Lexer, Word
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Argument, Ctx, Limits, Plan, Step, Text, TextList, Variable
from ragkit_pipelines.pearl.plan.validation import WHOLE_STEP, check_steps, has_controls

_HEADER = "new actions:"
_FORM = '1. name = ACTION(CTX, "text") : what it is for'


def parse_plan(text: str, library: ActionLibrary, *, repair: bool, limits: Limits) -> Plan:
    """Read a plan; see `Plan.parse`.

    Returns:
        The plan.

    Raises:
        PlanError: If it cannot be used.
    """
    parser = _Parser(library, repair=repair, limits=limits)
    parser.read(text)
    found = sorted(parser.found, key=lambda each: (each.line, each.column))
    if any(each.level == "error" for each in found):
        raise PlanError("the plan", found)
    return Plan(tuple(read.step for read in parser.steps), tuple(parser.new_actions.values()), tuple(found))


class _UnreadableError(Exception):
    """A line cannot be read any further; what is wrong has been said."""


@dataclass(slots=True)
class _Read:
    """A step with the places of its name and its values in the text."""

    step: Step
    line: int
    columns: tuple[int, ...]  # of the name, then of each value


class _Parser:
    def __init__(self, library: ActionLibrary, *, repair: bool, limits: Limits) -> None:
        self.library, self.repair, self.limits = library, repair, limits
        self.found: list[Diagnostic] = []
        self.new_actions: dict[str, Action] = {}
        self.steps: list[_Read] = []
        self.unreadable: set[str] = set()
        self.unknown: set[str] = set()  # names of actions that nobody defined
        self.line = 0
        self.numbered = 0  # numbered lines so far; nested calls that became steps have no number in the text

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
                self._error("too-many-steps", f"a plan has {self.limits.steps} steps at most", number, 0)
                return
        if not self.steps and not self.unreadable:
            self._error("no-steps", f"no step; expected lines such as {_FORM}", 0, 0)
        steps = [read.step for read in self.steps]
        check_steps(
            steps, self._where, self.found, unreadable=frozenset(self.unreadable), unknown=frozenset(self.unknown)
        )
        used = {step.action.name for step in steps}
        for name in self.new_actions.keys() - used:
            self.found.append(Diagnostic("warning", "unused-action", f"no step uses the new action {name}"))

    def _where(self, place: int, at: int) -> tuple[int, int]:
        read = self.steps[place]
        return read.line, read.columns[0 if at == WHOLE_STEP else min(at + 1, len(read.columns) - 1)]

    def _error(self, code: str, message: str, line: int, column: int) -> None:
        self.found.append(Diagnostic("error", code, message, line, column))

    def _fail(self, code: str, message: str, word: Word) -> _UnreadableError:
        self._error(code, message, self.line, word.column)
        return _UnreadableError()

    def _slip(self, code: str, wrong: str, mended: str, column: int, *, line: int | None = None) -> None:
        """Say what is wrong, or in repair what was done about it."""
        message = mended if self.repair else wrong
        at = self.line if line is None else line
        self.found.append(Diagnostic("repair" if self.repair else "error", code, message, at, column))

    def _lines(self, text: str) -> list[tuple[int, str]] | None:
        """Numbered lines that are not empty; code fences are set apart."""
        if len(text) > self.limits.characters:
            message = f"the plan has {len(text):,} characters; at most {self.limits.characters:,} are read"
            self._error("too-long", message, 0, 0)
            return None
        lines = []
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            if has_controls(line, "\t"):
                bad = next(at for at, letter in enumerate(line, 1) if has_controls(letter, "\t"))
                self._error("control-character", "a control character; a plan is plain text", number, bad)
                return None
            if line.lstrip().startswith("```"):
                self._slip("code-fence", "write the plan without a code fence", "code fence left out", 1, line=number)
            elif line.strip():
                lines.append((number, line))
        return lines

    def _definitions(self, lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Read all up to the first step; give the lines from there on."""
        places = [at for at, (_, line) in enumerate(lines) if line.strip().lower() == _HEADER]
        if places:
            start = places[0]
        else:
            message = "the plan must begin with 'New actions:' and '- None', or with definitions of new actions"
            self._slip("no-new-actions", message, "'New actions: - None' put before the plan", 0, line=0)
            start = next((at for at, (_, line) in enumerate(lines) if _looks_like_step(line)), 0)
        for number, _ in lines[:start]:
            self._slip("preamble", "nothing may stand before 'New actions:'", "line left out", 1, line=number)
        at = start + bool(places)
        while at < len(lines) and lines[at][1].lstrip().startswith("-"):
            self._definition(*lines[at])
            at += 1
        if places and at == start + 1:
            message = "under 'New actions:' stands '- None' or a definition; neither is there"
            self._slip("no-new-actions", message, "'- None' put under 'New actions:'", 0, line=lines[start][0])
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
            message = f"{action.name} is an action of the list; use it as it is, {known.signature}, or take a new name"
            if known.parameters == action.parameters:
                self._slip("hides-action", message, f"{action.name} keeps its meaning", column, line=number)
            else:
                self._error("hides-action", message, number, column)
        else:
            self.new_actions[action.name] = action

    def _step(self, lexer: Lexer) -> None:
        has_number = lexer.sight.kind == "number"
        if has_number:
            self._number(lexer)
        name = lexer.take()
        if name.kind != "name":
            raise self._fail("not-a-step", f"this is no step; a step is written {_FORM}", name)
        if not lexer.is_sign("="):
            raise self._fail(
                "not-a-step", f"expected '=' after {name.value[:60]!r}; a step is written {_FORM}", lexer.sight
            )
        if not has_number:
            self._slip("no-number", f"a step begins with its number: {_FORM}", "number put before the step", 1)
        lexer.take()
        self.unreadable.add(name.value)
        called = lexer.take()
        if called.kind != "name":
            raise self._fail("no-call", f"expected the name of an action; a step is written {_FORM}", called)
        action = self._action(called)
        arguments, columns = self._arguments(lexer, action, name.value, depth=1)
        note = self._note(lexer, action)
        self.unreadable.discard(name.value)
        step = Step(name.value, action, tuple(arguments), note)
        self.steps.append(_Read(step, self.line, (name.column, *columns)))

    def _number(self, lexer: Lexer) -> None:
        word = lexer.take()
        if lexer.is_sign(".") or lexer.is_sign(")") or lexer.is_sign(":"):
            sign = lexer.take()
            if sign.value != ".":
                wrong = f"expected '.' after the number, found {sign.value!r}"
                self._slip("number-sign", wrong, f"{sign.value!r} after the number read as '.'", sign.column)
        else:
            raise self._fail("number-sign", f"expected '.' after the number; a step is written {_FORM}", lexer.sight)
        if word.value.lstrip("0") != str(self.numbered):
            message = f"this is step {self.numbered}, but it is numbered {word.value[:12]}; number the steps 1, 2, 3 …"
            self._error("wrong-number", message, self.line, word.column)

    def _action(self, word: Word) -> Action:
        action = self.new_actions.get(word.value)
        if action is None and word.value in self.library:
            action = self.library[word.value]
        if action is not None:
            return action
        close = get_close_matches(word.value.upper(), [*self.new_actions, *(a.name for a in self.library)], n=2)
        meant = f"did you mean {' or '.join(close)}? Otherwise " if close else ""
        message = f"there is no action {word.value[:60]}; {meant}define it under 'New actions:'"
        self._error("unknown-action", message, self.line, word.column)
        # The rest of the step is checked too, under a name that nobody can have defined.
        stand_in = word.value if is_action_name(word.value) else "_"
        self.unknown.add(stand_in)
        return Action(stand_in, (DOCUMENT, "S1", MORE), "Not known.")

    def _arguments(self, lexer: Lexer, action: Action, out: str, depth: int) -> tuple[list[Argument], list[int]]:
        if not lexer.is_sign("("):
            raise self._fail(
                "no-call", f"expected '(' after the name of the action; a step is written {_FORM}", lexer.sight
            )
        arguments: list[Argument] = []
        columns: list[int] = []
        while not arguments or lexer.is_sign(","):
            lexer.take()
            columns.append(lexer.sight.column)
            fits = len(arguments) < len(action.parameters)
            parameter = action.parameter(len(arguments)) if fits or action.variadic else ""
            arguments.append(self._argument(lexer, parameter, out, depth))
            if len(arguments) > self.limits.arguments:
                raise self._fail("too-many-values", f"a call takes {self.limits.arguments} values at most", lexer.sight)
        self._close(lexer, ")")
        return arguments, columns

    def _close(self, lexer: Lexer, sign: str) -> None:
        if lexer.is_sign(sign):
            lexer.take()
            return
        word = lexer.sight
        if word.kind in {"name", "number", "other", "text"}:
            raise self._fail(
                "unquoted-text", f"{word.value[:60]!r} does not belong here; texts go in double quotes", word
            )
        if word.kind == "sign" and word.value in ".-=":
            raise self._fail(
                "expression", "a value is a text, a variable or CTX; nothing can be computed in a plan", word
            )
        raise self._fail("missing-bracket", f"expected ',' or {sign!r}", word)

    def _argument(self, lexer: Lexer, parameter: str, out: str, depth: int) -> Argument:
        word = lexer.take()
        if word.kind == "name" and lexer.is_sign("="):
            wrong = f"values have no names; leave out '{word.value[:60]} ='"
            if word.value != parameter:  # it might be meant for another place, so it cannot be mended
                raise self._fail("keyword", wrong, word)
            self._slip("keyword", wrong, f"'{parameter} =' left out", word.column)
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
            self._slip(
                "number-value", f'write the number as a text: "{word.value}"', "number read as text", word.column
            )
            return Text(word.value)
        if word.kind == "single":
            raise self._fail("single-quotes", f'a text goes in double quotes: "{word.value[:60]}"', word)
        if word.kind == "open-text":
            message = r"this text is not closed on its line, or holds a backslash before something else than \" \\ or n"
            raise self._fail("open-text", message, word)
        got = "the end of the line" if word.kind == "end" else repr(word.value)
        raise self._fail("no-value", f"expected CTX, a variable or a text in double quotes, found {got}", word)

    def _text(self, word: Word) -> Text:
        if word.kind == "curly":
            self._slip("curly-quotes", 'write straight quotes: "…"', "curly quotes read as straight ones", word.column)
        if len(word.value) > self.limits.literal:
            message = f"a text of {len(word.value):,} characters; at most {self.limits.literal} are read"
            raise self._fail("long-text", message, word)
        return Text(word.value)

    def _list(self, lexer: Lexer, depth: int) -> TextList:
        if depth >= self.limits.depth:
            raise self._fail(
                "too-deep", f"brackets in brackets: at most {self.limits.depth} levels are read", lexer.sight
            )
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
                raise self._fail("list-item", "a list holds texts in double quotes and variables", word)
            if len(found) > self.limits.arguments:
                raise self._fail("too-many-values", f"a list holds {self.limits.arguments} values at most", word)
        self._close(lexer, "]")
        return TextList(tuple(found))

    def _nested(self, lexer: Lexer, word: Word, out: str, depth: int) -> Variable:
        """A call in the place of a value: a step of its own, before the one that needs it."""
        wrong = f"{word.value[:60]}(…) cannot stand in a call; give it a step of its own"
        if depth >= self.limits.depth:
            raise self._fail("too-deep", f"{wrong}; at most {self.limits.depth} levels are read", word)
        action = self._action(word)
        arguments, columns = self._arguments(lexer, action, out, depth + 1)
        name = self._free_name(out)
        self._slip("nested-call", wrong, f"{action.name}(…) became a step of its own, {name}", word.column)
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
        elif lexer.sight.kind != "end":
            raise self._fail("after-call", "expected ' : ' and what the step is for", lexer.sight)
        if not note:
            message = "what the step is for is missing; write it behind ' : '"
            self._slip("no-note", message, "the action's own text stands for the missing note", lexer.sight.column)
        return note or action.text


def _looks_like_step(line: str) -> bool:
    lexer = Lexer(line)
    if lexer.sight.kind == "number":
        return True
    return lexer.take().kind == "name" and lexer.is_sign("=")
