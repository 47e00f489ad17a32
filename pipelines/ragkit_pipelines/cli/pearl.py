"""The commands ``ragkit pearl run|plan|resume|explain``."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragkit._progress import progress
from ragkit.errors import DataFileError, InvalidInputError, UnknownSpecError, UnreadFileWarning
from ragkit.ingest import load_documents
from ragkit.ingest._conversion import CONVERTED
from ragkit.models import default_model
from ragkit.models._budget import Budget
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    Json,
    MaxCalls,
    MaxReasoningTokens,
    MaxTokens,
    Reasoning,
    echo,
    echo_json,
    given_model,
    print_json,
)
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.planner import PromptPlanner
from ragkit_pipelines.pearl.run.context import Context, WholeText, Windows
from ragkit_pipelines.pearl.run.executor import PlanExecutor
from ragkit_pipelines.pearl.run.retrieval_contexts import GistPages, Retrieved
from ragkit_pipelines.pearl.run.run import Run
from ragkit_pipelines.pearl.run.trace_reader import read_run

if TYPE_CHECKING:
    from ragkit.protocols import LanguageModel

pearl_app = typer.Typer(help="Answer questions about a long text with plans.", no_args_is_help=True)

_CONTEXTS: dict[str, Context] = {
    "whole": WholeText(), "windows": Windows(), "retrieved": Retrieved(), "gists": GistPages(),
}  # fmt: skip

_Question = Annotated[str, typer.Argument(help="The question.")]
_Trace = Annotated[Path, typer.Argument(help="Trace file of a run.")]
_Model = Annotated[str | None, typer.Option("--model", "-m", help="Language model; smollm2 if installed.")]
_Context = Annotated[str, typer.Option(help="Text for each step: whole, windows, retrieved or gists.")]
_Library = Annotated[Path | None, typer.Option(help="File of actions, as text or JSON; by default ragkit's.")]
_Concurrency = Annotated[int, typer.Option(help="Maximum number of concurrent calls.")]
_StepTokens = Annotated[int, typer.Option(help="Maximum number of tokens per step.")]
_PlanSteps = Annotated[int | None, typer.Option("--max-plan-steps", help="Maximum number of steps of a plan.")]
_PlanDepth = Annotated[
    int | None, typer.Option("--max-plan-depth", help="Maximum number of steps that need each other's values in turn.")
]
_PlanTokens = Annotated[int, typer.Option(help="Maximum number of tokens for planning a question.")]
_PlanSeconds = Annotated[float, typer.Option(help="Maximum number of seconds for planning a question.")]
_StepSeconds = Annotated[float, typer.Option(help="Timeout of one call to an API in seconds.")]
_Seconds = Annotated[float | None, typer.Option(help="Maximum number of seconds for the question.")]
_Answer = Annotated[str, typer.Option(help="How the answer is formed from the steps: sinks, last or synthesize.")]


@pearl_app.command()
def run(
    question: _Question,
    document: Annotated[Path, typer.Option(help="The text: a UTF-8, PDF, Word, HTML or PowerPoint file.")],
    model: _Model = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    context: _Context = "whole",
    library: _Library = None,
    plan: Annotated[Path | None, typer.Option(help="File with a plan to run, as text or JSON.")] = None,
    answer: _Answer = "sinks",
    concurrency: _Concurrency = 4,
    max_tokens: _StepTokens = 512,
    max_plan_steps: _PlanSteps = None,
    max_plan_depth: _PlanDepth = None,
    plan_tokens: _PlanTokens = 2048,
    plan_seconds: _PlanSeconds = 300.0,
    step_seconds: _StepSeconds = 120.0,
    seconds: _Seconds = None,
    trace: Annotated[Path | None, typer.Option(help="File that records all calls; rerun to resume.")] = None,
    calls: MaxCalls = None,
    tokens: MaxTokens = None,
    *,
    as_json: Json = False,
) -> None:
    """Plan and answer a question about a text.

    Example: ragkit pearl run "Why does she leave?" --document story.txt --model openai:gpt-4.1-mini --trace run.jsonl
    """
    text = _read_document(document)  # before the model is loaded, so that errors are reported at once
    planner = _planner(max_plan_steps, max_plan_depth, plan_tokens, plan_seconds)
    executor = PlanExecutor(concurrency=concurrency, max_tokens=max_tokens, step_timeout=step_seconds)
    loaded = given_model(model, base_url, api_key_env, reasoning, max_reasoning_tokens)
    pearl = _pearl(loaded, context, library, answer, executor, planner)
    given = None if plan is None else _read_plan(plan, pearl.library)
    limited = any(limit is not None for limit in (calls, tokens, seconds))
    budget = Budget(calls=calls, tokens=tokens, seconds=seconds) if limited else None
    done = pearl.invoke(question, text, plan=given, budget=budget, trace=trace)
    _show(done, as_json=as_json)


@pearl_app.command()
def plan(
    question: _Question,
    model: _Model = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    library: _Library = None,
    max_plan_steps: _PlanSteps = None,
    max_plan_depth: _PlanDepth = None,
    plan_tokens: _PlanTokens = 2048,
    plan_seconds: _PlanSeconds = 300.0,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Repair small errors without another call.")] = False,
    as_json: Json = False,
) -> None:
    """Generate a plan without running it.

    Example: ragkit pearl plan "How often does he write?" --model openai:gpt-4.1-mini
    """
    pearl = Pearl(
        given_model(model, base_url, api_key_env, reasoning, max_reasoning_tokens) or default_model(),
        library=_read_library(library),
        planner=_planner(max_plan_steps, max_plan_depth, plan_tokens, plan_seconds, repair=repair),
    )
    with progress("planning", None):
        made = pearl.plan(question)
    if as_json:
        echo_json(made.to_json())
    else:
        echo(made.render())
    for each in made.diagnostics:
        echo(f"{each.level}: {each}", err=True)


@pearl_app.command()
def resume(
    trace: _Trace,
    model: _Model = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    context: _Context = "whole",
    library: _Library = None,
    answer: _Answer = "sinks",
    concurrency: _Concurrency = 4,
    max_tokens: _StepTokens = 512,
    *,
    as_json: Json = False,
) -> None:
    """Resume an interrupted run without repeating the calls in its trace.

    Example: ragkit pearl resume run.jsonl --model openai:gpt-4.1-mini
    """
    executor = PlanExecutor(concurrency=concurrency, max_tokens=max_tokens)
    loaded = given_model(model, base_url, api_key_env, reasoning, max_reasoning_tokens)
    done = _pearl(loaded, context, library, answer, executor, PromptPlanner()).resume(trace)
    _show(done, as_json=as_json)


@pearl_app.command()
def explain(
    trace: _Trace,
    form: Annotated[str, typer.Option(help="Output format: text, mermaid or html.")] = "text",
    number: Annotated[int | None, typer.Option(help="Number of the question, from 1; default: the last.")] = None,
) -> None:
    """Show the plan, the steps and the answer of a traced run, without a model.

    Example: ragkit pearl explain run.jsonl --form html > run.html
    """
    echo(read_run(trace, number).explain(form))  # type: ignore[arg-type]


def _pearl(
    model: str | LanguageModel | None, context: str, library: Path | None, answer: str, executor: PlanExecutor,
    planner: PromptPlanner,
) -> Pearl:  # fmt: skip
    if context not in _CONTEXTS:
        raise UnknownSpecError("context", context, _CONTEXTS)
    return Pearl(
        model or default_model(),
        library=_read_library(library),
        planner=planner,
        executor=executor,
        context=_CONTEXTS[context],
        answer=answer,  # type: ignore[arg-type]
    )


def _planner(
    max_steps: int | None, max_depth: int | None, tokens: int, seconds: float, *, repair: bool = False
) -> PromptPlanner:
    return PromptPlanner(
        max_steps=max_steps,
        max_depth=max_depth,
        total_tokens=tokens,
        seconds=seconds,
        repair=repair,
    )


def _read_library(path: Path | None) -> ActionLibrary | None:
    if path is None:
        return None
    text = _read(path)
    return ActionLibrary.from_json(text) if text.lstrip().startswith("{") else ActionLibrary.from_text(text)


def _read_plan(path: Path, library: ActionLibrary) -> Plan:
    text = _read(path)
    return Plan.from_json(text) if text.lstrip().startswith("{") else Plan.parse(text, library)


def _read_document(path: Path) -> str:
    """Read a text file verbatim, or the text of a document in another format."""
    if path.suffix.lower() not in CONVERTED:
        return _read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadFileWarning)  # raised as an error below
        read = load_documents(path)
    if read.unread or not read:
        reasons = "; ".join(each.reason for each in read.unread) or "the file contains no text"
        raise DataFileError(path, 0, reasons)
    return "".join(part.text for part in read)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a text file") from error
    except UnicodeDecodeError as error:
        raise DataFileError(path, 0, f"byte {error.start} is not valid UTF-8; save the file as UTF-8") from error


def _show(done: Run, *, as_json: bool) -> None:
    if as_json:
        print_json({
            "question": done.question,
            "answer": done.text,
            "status": done.status,
            "plan": None if done.plan is None else done.plan.render(),
            "source": done.planning.source,
            "reasons": [*done.reasons, *([done.planning.reason] if done.planning.reason else [])],
            "steps": [
                {"step": each.step.out, "status": each.status, "value": each.value, "reason": each.reason}
                for each in done.steps
            ],
            "calls": done.calls,
            "failed_calls": done.failed_calls,
            "reused": done.reused,
            **asdict(done.usage),
            "cost": done.cost,
            "seconds": done.seconds,
        })  # fmt: skip
    else:
        echo(done.explain())
    if done.status == "failed":
        raise InvalidInputError("no answer was found: " + "; ".join([*done.reasons, done.planning.reason])[:500])
