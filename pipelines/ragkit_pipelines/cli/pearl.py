"""The command line of PEARL: ``ragkit pearl run|plan|resume|explain``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragkit.errors import DataFileError, InvalidInputError, UnknownSpecError, UnreadFileWarning
from ragkit.ingest import load_documents
from ragkit.ingest.conversion import CONVERTED
from ragkit.models import default_model, load_model
from ragkit.models.budget import Budget
from ragkit.progress import progress
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.planner import PromptPlanner
from ragkit_pipelines.pearl.run.context import Context, WholeText, Windows
from ragkit_pipelines.pearl.run.executor import PlanExecutor
from ragkit_pipelines.pearl.run.retrieval_contexts import GistPages, Retrieved
from ragkit_pipelines.pearl.run.run import Run
from ragkit_pipelines.pearl.run.trace_reader import read_run

pearl_app = typer.Typer(help="Answer questions about a long text by plans.", no_args_is_help=True)

_CONTEXTS: dict[str, Context] = {
    "whole": WholeText(),
    "windows": Windows(),
    "retrieved": Retrieved(),
    "gists": GistPages(),
}

_Question = Annotated[str, typer.Argument(help="The question.")]
_Trace = Annotated[Path, typer.Argument(help="File of a trace.")]
_Model = Annotated[Optional[str], typer.Option("--model", "-m", help="Such as smollm2 or openai:gpt-4.1-mini.")]  # noqa: UP045
_BaseUrl = Annotated[Optional[str], typer.Option(help="Address of an OpenAI-compatible server.")]  # noqa: UP045
_Context = Annotated[str, typer.Option(help="What a step is shown: whole, windows, retrieved or gists.")]
_Library = Annotated[Optional[Path], typer.Option(help="Actions as text or JSON; ragkit's own if left out.")]  # noqa: UP045
_Concurrency = Annotated[int, typer.Option(help="Calls of the model at once.")]
_MaxTokens = Annotated[int, typer.Option(help="Tokens of a step's value at the most.")]
_Answer = Annotated[str, typer.Option(help="sinks, last or synthesize.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@pearl_app.command()
def run(  # noqa: PLR0913 - an argument for each option
    question: _Question,
    document: Annotated[Path, typer.Option(help="The text: UTF-8, or PDF, Word, HTML, PowerPoint.")],
    model: _Model = None,
    base_url: _BaseUrl = None,
    context: _Context = "whole",
    library: _Library = None,
    plan: Annotated[Optional[Path], typer.Option(help="A plan to run, as text or JSON.")] = None,  # noqa: UP045
    answer: _Answer = "sinks",
    concurrency: _Concurrency = 4,
    max_tokens: _MaxTokens = 512,
    trace: Annotated[Optional[Path], typer.Option(help="Keep every call there; the same command goes on.")] = None,  # noqa: UP045
    calls: Annotated[Optional[int], typer.Option(help="Calls at the most.")] = None,  # noqa: UP045
    tokens: Annotated[Optional[int], typer.Option(help="Tokens at the most.")] = None,  # noqa: UP045
    *,
    as_json: _Json = False,
) -> None:
    """Answer a question about a text.

    Example: ragkit pearl run "Why does she leave?" --document story.txt --model openai:gpt-4.1-mini --trace run.jsonl
    """
    text = _text_of(document)  # what is quickly wrong is said before a model is loaded
    pearl = _pearl(model, base_url, context, library, answer, concurrency, max_tokens)
    given = None if plan is None else _plan(plan, pearl.parts.library)
    budget = None if calls is None and tokens is None else Budget(calls=calls, tokens=tokens)
    with progress("planning and answering", None):
        done = pearl.invoke(question, text, plan=given, budget=budget, trace=trace)
    _show(done, as_json=as_json)


@pearl_app.command()
def plan(
    question: _Question,
    model: _Model = None,
    base_url: _BaseUrl = None,
    library: _Library = None,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend slips instead of asking again.")] = False,
    as_json: _Json = False,
) -> None:
    """Make a plan without running it.

    Example: ragkit pearl plan "How often does he write?" --model openai:gpt-4.1-mini
    """
    pearl = Pearl(
        load_model(model or default_model(), base_url=base_url),
        library=_actions(library),
        planner=PromptPlanner(repair=repair),
    )
    with progress("planning", None):
        made = pearl.plan(question)
    typer.echo(made.to_json() if as_json else made.render())
    for each in made.diagnostics:
        typer.echo(f"{each.level}: {each}", err=True)


@pearl_app.command()
def resume(
    trace: _Trace,
    model: _Model = None,
    base_url: _BaseUrl = None,
    context: _Context = "whole",
    library: _Library = None,
    answer: _Answer = "sinks",
    concurrency: _Concurrency = 4,
    max_tokens: _MaxTokens = 512,
    *,
    as_json: _Json = False,
) -> None:
    """Go on with a question that was stopped; calls that the trace holds are not made again.

    Example: ragkit pearl resume run.jsonl --model openai:gpt-4.1-mini
    """
    pearl = _pearl(model, base_url, context, library, answer, concurrency, max_tokens)
    with progress("answering", None):
        done = pearl.resume(trace)
    _show(done, as_json=as_json)


@pearl_app.command()
def explain(
    trace: _Trace,
    form: Annotated[str, typer.Option(help="text, mermaid or html.")] = "text",
    number: Annotated[Optional[int], typer.Option(help="Which question of the trace, from 1; the last one.")] = None,  # noqa: UP045
) -> None:
    """Show how a question of a trace was answered; no model is needed.

    Example: ragkit pearl explain run.jsonl --form html > run.html
    """
    typer.echo(read_run(trace, number).explain(form))  # type: ignore[arg-type]


def _pearl(
    model: str | None,
    base_url: str | None,
    context: str,
    library: Path | None,
    answer: str,
    concurrency: int,
    max_tokens: int,
) -> Pearl:
    if context not in _CONTEXTS:
        raise UnknownSpecError("context", context, _CONTEXTS)
    actions = _actions(library)
    return Pearl(
        load_model(model or default_model(), base_url=base_url),
        library=actions,
        executor=PlanExecutor(concurrency=concurrency, max_tokens=max_tokens),
        context=_CONTEXTS[context],
        answer=answer,  # type: ignore[arg-type]
    )


def _actions(path: Path | None) -> ActionLibrary | None:
    if path is None:
        return None
    text = _read(path)
    return ActionLibrary.from_json(text) if text.lstrip().startswith("{") else ActionLibrary.from_text(text)


def _plan(path: Path, library: ActionLibrary) -> Plan:
    text = _read(path)
    return Plan.from_json(text) if text.lstrip().startswith("{") else Plan.parse(text, library)


def _text_of(document: Path) -> str:
    """The whole text; what is no plain text is read as everywhere else."""
    if document.suffix.lower() not in CONVERTED:
        return _read(document)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadFileWarning)  # an error here
        read = load_documents(document)
    if read.unread or not read:
        reasons = "; ".join(each.reason for each in read.unread) or "it holds no text"
        raise DataFileError(document, 0, reasons)
    return "".join(part.text for part in read)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a text") from error
    except UnicodeDecodeError as error:
        raise DataFileError(path, 0, f"is not UTF-8 (byte {error.start}); expected a text in UTF-8") from error


def _show(done: Run, *, as_json: bool) -> None:
    if as_json:
        steps = [
            {"step": each.step.out, "status": each.status, "value": each.value, "reason": each.reason}
            for each in done.steps
        ]
        facts = {
            "question": done.question,
            "answer": done.text,
            "status": done.status,
            "plan": None if done.plan is None else done.plan.render(),
            "source": done.planning.source,
            "reasons": [*done.reasons, *([done.planning.reason] if done.planning.reason else [])],
            "steps": steps,
            "calls": done.calls,
            "reused": done.reused,
            "prompt_tokens": done.usage.prompt_tokens,
            "cached_tokens": done.usage.cached_tokens,
            "completion_tokens": done.usage.completion_tokens,
            "cost": done.cost,
            "seconds": done.seconds,
        }
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        typer.echo(done.explain())
    if done.status == "failed":
        raise InvalidInputError("there is no answer: " + "; ".join([*done.reasons, done.planning.reason])[:500])
