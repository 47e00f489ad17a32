"""PEARL: answering a question about a long document by a plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

from ragkit._progress import progress
from ragkit.errors import InvalidInputError, PlanError
from ragkit.models import load_model
from ragkit.models._budget import Budget
from ragkit.models._concurrency import Cancellation, in_parallel, in_thread
from ragkit.protocols import LanguageModel
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.planner import Planner, PromptPlanner, ZeroShot
from ragkit_pipelines.pearl.prompts import VERSION
from ragkit_pipelines.pearl.router import Router
from ragkit_pipelines.pearl.run.answering import Answer, Answering, Stage
from ragkit_pipelines.pearl.run.calls import Caller
from ragkit_pipelines.pearl.run.context import Context, View, WholeText
from ragkit_pipelines.pearl.run.estimate import Estimate, estimate
from ragkit_pipelines.pearl.run.events import RunBegun
from ragkit_pipelines.pearl.run.executor import PlanExecutor
from ragkit_pipelines.pearl.run.inputs import Text, checked_question, paired, text_of
from ragkit_pipelines.pearl.run.run import Planning, Run
from ragkit_pipelines.pearl.run.trace import RunTrace, Trace, text_hash

_Result = TypeVar("_Result")
_VIEWS = 8  # number of prepared documents to cache


class Pearl:
    r"""Answer questions about a long document by plans of typed steps (PEARL, Sun et al., EACL 2024).

    A model writes a plan without seeing the document. The steps of the plan then read the document, and independent
    steps run in parallel. The values that no other step uses form the answer. Any number of questions and threads may
    share one `Pearl`; a question depends on earlier ones only through the responses cached in a trace.

    Examples:
        >>> from ragkit import ScriptedModel
        >>> plan = '''New actions:
        ... - None
        ...
        ... 1. who = WHO_IS(CTX, "the keeper") : Say who the keeper is'''
        >>> model = ScriptedModel(lambda prompt: plan if prompt.endswith("?\n\n") else "Ann keeps the light.")
        >>> run = Pearl(model).invoke("Who is the keeper?", document="Ann kept the light at Hook Head.")
        >>> run.text, run.calls
        ('Ann keeps the light.', 2)
    """

    def __init__(
        self,
        model: str | LanguageModel,
        *,
        library: ActionLibrary | None = None,
        planner: Planner | None = None,
        executor: PlanExecutor | None = None,
        context: Context | None = None,
        fallback: ZeroShot | None = ZeroShot(),  # noqa: B008 - frozen
        router: Router | None = None,
        answer: Answer = "sinks",
        answer_reads_document: bool = True,
    ) -> None:
        """Configure the pipeline.

        Args:
            model: A model or its spec.
            library: The actions; `ActionLibrary.default()` if None.
            planner: Writes the plans; `PromptPlanner()` if None.
            executor: Runs the plans; `PlanExecutor()` if None. Several pipelines may share one and its limits.
            context: Determines which parts of the document a step reads; `WholeText()` if None.
            fallback: Answers the question if no plan is accepted; None to return no answer in this case.
            router: Chooses between a plan and a direct answer; None to always plan.
            answer: ``"sinks"``: all values that no step uses, in the order of the plan; ``"last"``: the value of the
                last step; ``"synthesize"``: a further call that answers the question from the values.
            answer_reads_document: Whether that call reads the document as well.

        Raises:
            InvalidInputError: If ``answer`` is unknown.
        """
        if answer not in {"sinks", "last", "synthesize"}:
            raise InvalidInputError(f"`answer` must be 'sinks', 'last' or 'synthesize', got {answer!r}")
        self.model = load_model(model)
        self.library = library or ActionLibrary.default()
        self.planner = planner or PromptPlanner()
        self.executor = executor or PlanExecutor()
        self.context = context or WholeText()
        self.fallback, self.router = fallback, router
        self.answer, self.answer_reads_document = answer, answer_reads_document
        self._views: dict[str, View] = {}
        self._lock = Lock()

    def plan(
        self,
        question: str,
        *,
        budget: Budget | None = None,
        rejected: Plan | None = None,
        remarks: Sequence[str] = (),
    ) -> Plan:
        """Write a plan without running it. No document is needed.

        Args:
            question: The question.
            budget: Limits on the model calls.
            rejected: An earlier plan that gave a wrong answer.
            remarks: What is wrong with that plan.

        Returns:
            The plan.

        Raises:
            PlanError: If no plan is accepted.
        """
        caller = self._caller(budget, None, None)
        planned = self.planner.plan(
            checked_question(question), self.library, caller, rejected=rejected, remarks=remarks
        )
        if planned.plan is None:
            found = planned.rejected[-1][1] if planned.rejected else [Diagnostic("error", "no-plan", planned.reason)]
            raise PlanError("the model's plan", found)
        return planned.plan

    def estimate(self, plan: Plan, document: Text | None = None) -> Estimate:
        """Estimate the calls, tokens and cost of a plan, without any model call.

        Args:
            plan: The plan.
            document: The document.

        Returns:
            The estimate.
        """
        warm_tokens = None if self.executor.batches(self.model) else self.executor.warm_tokens
        view, max_tokens = self._view(document), self.executor.max_tokens
        return estimate(plan, view, self.model, max_tokens=max_tokens, warm_tokens=warm_tokens)

    def invoke(
        self,
        question: str,
        document: Text | None = None,
        *,
        plan: Plan | None = None,
        budget: Budget | None = None,
        trace: Trace | str | Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> Run:
        """Answer a question.

        Args:
            question: The question.
            document: The document; None if the context has texts of its own.
            plan: A plan to run; if None, the planner writes one.
            budget: Limits on the model calls; any number of questions may share one budget.
            trace: A trace or its file. It records every call, and recorded calls are not repeated.
            cancellation: Cancels the question.

        Returns:
            The run. Failures of calls and steps are reported in it; only invalid arguments raise an error.
        """
        *_, run = self.stream(question, document, plan=plan, budget=budget, trace=trace, cancellation=cancellation)
        assert isinstance(run, Run)  # noqa: S101 - a stream ends with its run
        return run

    def stream(
        self,
        question: str,
        document: Text | None = None,
        *,
        plan: Plan | None = None,
        budget: Budget | None = None,
        trace: Trace | str | Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[Stage]:
        """Answer a question and yield intermediate results. The arguments are those of `invoke`.

        Yields:
            The plan, each `StepRun` when its wave is complete, and finally the `Run`.
        """
        asked, view = checked_question(question), self._view(document)
        with _opened(trace) as kept:
            settings = {"context": self.context.fingerprint, "answer": self.answer}
            begun = None if kept is None else kept.begin(asked, text_of(document), self.model, **settings)
            caller = self._caller(budget, begun, cancellation)
            yield from Answering(pearl=self, question=asked, view=view, caller=caller, trace=begun).run(plan)

    def batch(
        self,
        questions: Sequence[str],
        document: Text | Sequence[Text] | None = None,
        *,
        budget: Budget | None = None,
        trace: Trace | str | Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Run]:
        """Answer several questions in parallel.

        Args:
            questions: The questions.
            document: One document for all questions, or one for each.
            budget: Limits on the model calls of all questions together.
            trace: A trace or its file, for all questions; see `invoke`.
            cancellation: Cancels all questions.

        Returns:
            Runs in the order of the questions.
        """
        documents = paired(questions, document)
        off = cancellation or Cancellation()
        if not questions:
            return []
        with _opened(trace) as kept:
            if len(questions) > 1:
                self.planner.warm(self.library, self._caller(budget, None, off))

            with progress("answering questions", len(questions), "rows") as advance:

                def work(pair: tuple[str, Text | None]) -> Run:
                    run = self.invoke(*pair, budget=budget, trace=kept, cancellation=off)
                    advance(1)
                    return run

                # A few more threads than concurrent calls, because each question also waits for its own calls.
                threads = self.executor.concurrency + 4
                try:
                    return in_parallel(work, list(zip(questions, documents, strict=True)), threads)
                except BaseException:
                    off.cancel()
                    raise

    async def ainvoke(
        self,
        question: str,
        document: Text | None = None,
        *,
        plan: Plan | None = None,
        budget: Budget | None = None,
        trace: Trace | str | Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> Run:
        """Run `invoke` without blocking the event loop. Cancelling the task cancels the question."""
        off = cancellation or Cancellation()
        return await _awaited(
            lambda: self.invoke(question, document, plan=plan, budget=budget, trace=trace, cancellation=off), off
        )

    async def abatch(
        self,
        questions: Sequence[str],
        document: Text | Sequence[Text] | None = None,
        *,
        budget: Budget | None = None,
        trace: Trace | str | Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Run]:
        """Run `batch` without blocking the event loop. Cancelling the task cancels all questions."""
        off = cancellation or Cancellation()
        return await _awaited(
            lambda: self.batch(questions, document, budget=budget, trace=trace, cancellation=off), off
        )

    def resume(
        self,
        trace: Trace | str | Path,
        *,
        document: Text | None = None,
        budget: Budget | None = None,
        cancellation: Cancellation | None = None,
    ) -> Run:
        """Resume the last unfinished question of a trace; if there is none, reproduce its last run.

        Args:
            trace: The trace or its file.
            document: The document, if the trace does not contain it.
            budget: Limits on the remaining model calls.
            cancellation: Cancels the question.

        Returns:
            The run. Calls that the trace contains are not repeated.

        Raises:
            InvalidInputError: If the trace belongs to another model, context or document.
        """
        if not isinstance(trace, Trace) and not Path(trace).is_file():
            raise InvalidInputError(f"the trace {trace} does not exist; create it with invoke(…, trace={str(trace)!r})")
        with _opened(trace) as kept:
            assert kept is not None  # noqa: S101 - a trace was passed
            begun = kept.last_run()
            text = self._resumed_document(kept, begun, document)
            made = kept.plan_of(begun.run)
            recorded = RunTrace(kept, begun)
            caller, view = self._caller(budget, recorded, cancellation), self._view(text or None)
            answering = Answering(pearl=self, question=begun.question, view=view, caller=caller, trace=recorded)
            plan = None if made is None else Plan.from_json(made.plan)
            planning = None if made is None else Planning(source=made.source, reason=made.reason)
            *_, run = answering.run(plan, planning)
            assert isinstance(run, Run)  # noqa: S101 - the last stage
            return run

    def _resumed_document(self, trace: Trace, begun: RunBegun, document: Text | None) -> str:
        """Check that a question can be resumed with this pipeline, and find its document."""
        if begun.version != VERSION:
            raise InvalidInputError(
                f"the trace {trace.path} was written by an earlier version of ragkit; start again with invoke(…)"
            )
        for setting, then, now in (
            ("model", begun.fingerprint, self.model.fingerprint),
            ("context", begun.context, self.context.fingerprint),
            ("answer", begun.answer, self.answer),
        ):
            if then != now:
                raise InvalidInputError(
                    f"the trace {trace.path} was recorded with {setting} {then!r}, but this Pearl has {now!r}; resume "
                    "with the same settings, or start again with invoke(…)"
                )
        stored = "" if begun.document == text_hash("") else trace.document(begun.document)
        text = text_of(document) if document is not None else stored
        if text is None:
            raise InvalidInputError(f"the trace {trace.path} does not contain its document; pass it as `document`")
        if text_hash(text) != begun.document:
            raise InvalidInputError(f"the trace {trace.path} belongs to another document; pass that one as `document`")
        return text

    def _view(self, document: Text | None) -> View | None:
        """Prepare a document for the steps. The last few are cached, because several questions may share one."""
        if document is None and not self.context.holds_texts:
            return None
        text = text_of(document)
        with self._lock:
            if text in self._views:
                return self._views[text]
        view = self.context.open(text, self.model)
        with self._lock:
            self._views[text] = view
            while len(self._views) > _VIEWS:
                del self._views[next(iter(self._views))]
        return view

    def _caller(self, budget: Budget | None, trace: RunTrace | None, cancellation: Cancellation | None) -> Caller:
        return self.executor.caller(self.model, budget=budget, trace=trace, cancellation=cancellation)


async def _awaited(work: Callable[[], _Result], cancellation: Cancellation) -> _Result:
    """Run a function in a thread of its own, because a shared pool would limit the number of waiting questions."""
    try:
        return await asyncio.wrap_future(in_thread(work))
    except asyncio.CancelledError:
        cancellation.cancel()
        raise


@contextmanager
def _opened(trace: Trace | str | Path | None) -> Iterator[Trace | None]:
    """Open a trace if necessary, and close it afterwards if it was opened here."""
    if trace is None or isinstance(trace, Trace):
        yield trace
        return
    with Trace(trace) as opened:
        yield opened
