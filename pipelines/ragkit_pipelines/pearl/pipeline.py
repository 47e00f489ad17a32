"""PEARL: a question about a long document, answered by a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from ragkit.errors import InvalidInputError, PlanError
from ragkit.models import load_model
from ragkit.models.budget import Budget
from ragkit.models.middleware import LayeredModel
from ragkit.progress import progress
from ragkit.protocols import LanguageModel
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.planner import Planner, PromptPlanner, ZeroShot
from ragkit_pipelines.pearl.router import Router
from ragkit_pipelines.pearl.run.answering import Answer, Answering, Parts, Stage
from ragkit_pipelines.pearl.run.calls import Caller
from ragkit_pipelines.pearl.run.concurrency import Cancellation
from ragkit_pipelines.pearl.run.context import Context, View, WholeText
from ragkit_pipelines.pearl.run.estimate import estimate
from ragkit_pipelines.pearl.run.executor import PlanExecutor
from ragkit_pipelines.pearl.run.inputs import Text, checked_question, paired, text_of
from ragkit_pipelines.pearl.run.run import Estimate, Planning, Run
from ragkit_pipelines.pearl.run.threads import in_thread
from ragkit_pipelines.pearl.run.trace import RunTrace, Trace, text_hash

_VIEWS = 8  # documents that stay open


class Pearl:
    r"""Answer questions about a long document by plans of typed steps (PEARL, Sun et al., EACL 2024).

    A model that does not see the document writes a plan; the steps of the plan read the document, those that do not
    need each other at the same time; the values that no step uses are the answer. Any number of questions and threads
    may use one Pearl; nothing is carried from one question to the next but what a trace holds.

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
        """Put the parts together.

        Args:
            model: A model or its spec.
            library: The actions; those that ship with ragkit if None.
            planner: What makes plans; `PromptPlanner()` if None.
            executor: What runs them; `PlanExecutor()` if None. Several Pearls may share one, and keep to its limit.
            context: What a step is shown of the document; `WholeText()` if None.
            fallback: What answers where no plan is accepted; None for no answer then.
            router: What chooses between a plan and a direct answer; None to always plan.
            answer: ``"sinks"``: all values that no step uses, in the order of the plan; ``"last"``: the value of the
                last step; ``"synthesize"``: one call more, which answers the question from the values.
            answer_reads_document: Whether that call is shown the document too.

        Raises:
            InvalidInputError: If ``answer`` is not known.
        """
        if answer not in {"sinks", "last", "synthesize"}:
            raise InvalidInputError(f"`answer` must be 'sinks', 'last' or 'synthesize', got {answer!r}")
        self.model = load_model(model)
        self.context = context or WholeText()
        self._views: dict[str, View] = {}
        self._lock = Lock()
        self.parts = Parts(
            library=library or ActionLibrary.default(),
            planner=planner or PromptPlanner(),
            executor=executor or PlanExecutor(),
            fallback=fallback,
            router=router,
            answer=answer,
            answer_reads_document=answer_reads_document,
        )

    def plan(
        self,
        question: str,
        *,
        budget: Budget | None = None,
        rejected: Plan | None = None,
        remarks: Sequence[str] = (),
    ) -> Plan:
        """Make a plan without running it; no document is needed.

        Args:
            question: The question.
            budget: What it may take.
            rejected: An earlier plan that is not wanted.
            remarks: What is wrong with it.

        Returns:
            The plan.

        Raises:
            PlanError: If none is accepted.
        """
        caller = self._caller(budget, None, None)
        planned = self.parts.planner.plan(
            checked_question(question), self.parts.library, caller, rejected=rejected, remarks=remarks
        )
        if planned.plan is None:
            found = planned.rejected[-1][1] if planned.rejected else [Diagnostic("error", "no-plan", planned.reason)]
            raise PlanError("the model's plan", found)
        return planned.plan

    def estimate(self, plan: Plan, document: Text | None = None) -> Estimate:
        """What running a plan will take, without a call.

        Args:
            plan: The plan.
            document: The document.

        Returns:
            Calls, tokens and cost.
        """
        view = self._view(document)
        executor = self.parts.executor
        return estimate(
            plan,
            view,
            self.model,
            max_tokens=executor.max_tokens,
            warm_tokens=None if executor.batches(self.model) else executor.warm_tokens,
        )

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
            document: The document; None where the context holds texts of its own.
            plan: A plan to run instead of making one.
            budget: What the question may take; any number of questions may share one.
            trace: A trace, or the file of one: every call is kept there, and none that it holds is made again.
            cancellation: What calls the question off.

        Returns:
            The run. What goes wrong with a call or a step stands in it; only wrong arguments raise.
        """
        run: Run | None = None
        for stage in self.stream(question, document, plan=plan, budget=budget, trace=trace, cancellation=cancellation):
            run = stage if isinstance(stage, Run) else run
        assert run is not None  # noqa: S101 - a stream ends with its run
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
        """Answer a question and show how it comes about; arguments as for `invoke`.

        Yields:
            The plan, each `StepRun` once its wave is over, and at last the `Run`.
        """
        asked, view = checked_question(question), self._view(document)
        with _opened(trace) as kept:
            begun = None
            if kept is not None:
                begun = kept.begin(
                    asked,
                    text_of(document),
                    model=self.model.name,
                    fingerprint=self.model.fingerprint,
                    context=self.context.fingerprint,
                    answer=self.parts.answer,
                )
            caller = self._caller(budget, begun, cancellation)
            yield from Answering(parts=self.parts, question=asked, view=view, caller=caller, trace=begun).run(plan)

    def batch(
        self,
        questions: Sequence[str],
        document: Text | Sequence[Text] | None = None,
        *,
        budget: Budget | None = None,
        trace: Trace | str | Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Run]:
        """Answer several questions at the same time.

        Args:
            questions: The questions.
            document: The document of all, or one for each.
            budget: What all of them together may take.
            trace: As for `invoke`; one for all.
            cancellation: What calls all of them off.

        Returns:
            Runs in the order of the questions.
        """
        documents = paired(questions, document)
        off = cancellation or Cancellation()
        if not questions:
            return []
        with _opened(trace) as kept:
            if len(questions) > 1:
                self.parts.planner.warm(self.parts.library, self._caller(budget, None, off))

            def work(pair: tuple[str, Text | None]) -> Run:
                return self.invoke(*pair, budget=budget, trace=kept, cancellation=off)

            # Each question waits for its own calls, so a few more than can call at once keep the gate busy.
            workers = min(len(questions), self.parts.executor.concurrency + 4)
            runs: list[Run] = []
            with ThreadPoolExecutor(workers) as pool, progress("Questions", len(questions)) as advance:
                try:
                    for run in pool.map(work, zip(questions, documents, strict=True)):
                        runs.append(run)
                        advance(1)
                except BaseException:
                    off.cancel()
                    raise
            return runs

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
        """`invoke` without blocking the event loop; a task that is cancelled calls the question off.

        Returns:
            The run.
        """
        off = cancellation or Cancellation()
        return await in_thread(
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
        """`batch` without blocking the event loop.

        Returns:
            Runs in the order of the questions.
        """
        off = cancellation or Cancellation()
        return await in_thread(
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
        """Go on with the last question of a trace that has no end, or show its last run again.

        Args:
            trace: The trace, or its file.
            document: The document, where the trace does not hold it.
            budget: What the rest may take.
            cancellation: What calls it off.

        Returns:
            The run. Calls that the trace holds are not made again.

        Raises:
            InvalidInputError: If the trace is of another model, context or document.
        """
        if not isinstance(trace, Trace) and not Path(trace).is_file():
            raise InvalidInputError(f"there is no trace {trace}; start one with invoke(…, trace={str(trace)!r})")
        with _opened(trace) as kept:
            assert kept is not None  # noqa: S101 - there is a trace
            begun = kept.last_run()
            for what, then, now in (
                ("model", begun.fingerprint, self.model.fingerprint),
                ("context", begun.context, self.context.fingerprint),
                ("answer", begun.answer, self.parts.answer),
            ):
                if then != now:
                    raise InvalidInputError(
                        f"the trace {kept.path} was made with the {what} {then!r}, this Pearl has {now!r}; "
                        "resume with the same, or start anew with invoke(…)"
                    )
            held = "" if begun.document == text_hash("") else kept.document(begun.document)
            text = text_of(document) if document is not None else held
            if text is None or text_hash(text) != begun.document:
                problem = "does not hold its document" if text is None else "is about another document"
                raise InvalidInputError(f"the trace {kept.path} {problem}; give the right one as `document`")
            made = kept.plan_of(begun.run)
            run_trace = kept.continued(begun)
            answering = Answering(
                parts=self.parts,
                question=begun.question,
                view=self._view(text or None),
                caller=self._caller(budget, run_trace, cancellation),
                trace=run_trace,
            )
            plan = None if made is None else Plan.from_json(made.plan)
            planning = None if made is None else Planning(source=made.source, reason=made.reason)
            *_, run = answering.run(plan, planning)
            assert isinstance(run, Run)  # noqa: S101 - the last stage
            return run

    def _view(self, document: Text | None) -> View | None:
        """The document as steps see it; the last few are kept, as many questions may share one."""
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
        model = self.model if budget is None else LayeredModel(self.model, budget=budget)
        return self.parts.executor.caller(model, memory=trace, cancellation=cancellation)


@contextmanager
def _opened(trace: Trace | str | Path | None) -> Iterator[Trace | None]:
    """A trace; one that is opened here is closed afterwards."""
    if trace is None or isinstance(trace, Trace):
        yield trace
        return
    with Trace(trace) as opened:
        yield opened
