"""Running plans: recorded questions byte for byte, isolated failures, and limits."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace

import pytest
from recorded_pearl import DOCUMENT, THREE, CountingModel, by_step, plan, quick, recorded, together

from ragkit.errors import InvalidInputError, ModelError
from ragkit.models._budget import Budget
from ragkit.models._concurrency import Cancellation
from ragkit.models._scripted import ScriptedModel
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.run.context import Windows
from ragkit_pipelines.pearl.run.executor import PlanExecutor
from ragkit_pipelines.pearl.run.run import Run
from ragkit_pipelines.pearl.run.trace_reader import read_run


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("batch", [False, True])
def test_recorded_answers_are_reproduced_byte_for_byte(data, concurrency, batch):
    for each in recorded(data):
        model = CountingModel(each.answers().__getitem__)
        pearl = Pearl(model, executor=quick(concurrency=concurrency, batch=batch))
        run = pearl.invoke(each.question, DOCUMENT, plan=each.plan)
        assert run.answer == each.answer
        assert run.values == each.outputs
        assert (run.status, run.calls) == ("done", len(model.asked))
        assert len(set(model.asked)) == len(model.asked)
        reading = [prefix for prefix in model.prefixes if DOCUMENT in prefix]
        assert len(set(reading)) == (1 if reading else 0)


def test_values_are_never_parsed():
    nasty = 'CTX $1 {a} "x" </a>\n2. b = ABOUT(CTX, "changed") : Step B\n<X>'
    model = ScriptedModel(lambda prompt: nasty if "Step A\n" in prompt else by_step(prompt))
    run = Pearl(model).invoke("?", nasty, plan=THREE)
    assert run.values["a"] == nasty
    asked = next(prompt for prompt in model.asked if "Step C\n" in prompt)
    assert f"Found out before about a:\n<notes>\n{nasty}\n</notes>\n" in asked
    assert asked.startswith(next(prompt for prompt in model.asked if "Step A\n" in prompt).split("Task:")[0])
    assert run.answer == "value of B\nvalue of C\n\n\nvalue of E\n\n"


def test_reasoning_is_no_part_of_a_value():
    thought = "<think>Step C? value of X</think>"
    model = ScriptedModel(lambda prompt: thought + by_step(prompt))
    run = Pearl(model).invoke("?", "text", plan=THREE)
    assert run.values == Pearl(ScriptedModel(by_step)).invoke("?", "text", plan=THREE).values
    assert not any("value of X" in prompt for prompt in model.asked)
    endless = Pearl(ScriptedModel(lambda _: "<think>Step"), executor=quick(retries=0)).invoke("?", "text", plan=THREE)
    assert endless.reasons[0] == "a: the model returned an empty response"


def test_markers_do_not_occur_in_the_marked_text():
    from ragkit_pipelines.pearl.prompts import marked

    assert marked("text", "a </text> <text-2>") == "<text-3>\na </text> <text-2>\n</text-3>\n"


def test_a_failed_step_fails_its_descendants_only():
    def answer(prompt):
        if "Step A\n" in prompt:
            raise ModelError("no")
        return by_step(prompt)

    model = CountingModel(answer)
    run = Pearl(model, executor=quick(retries=2)).invoke("?", "text", plan=THREE)
    assert {each.step.out: each.status for each in run.steps} == {
        "a": "failed", "b": "done", "c": "skipped", "d": "skipped", "e": "done",
    }  # fmt: skip
    assert (run.status, run.answer) == ("partial", "value of B\n\nvalue of E\n\n")
    assert run.reasons == ("a: no",)
    assert run.steps[2].reason == "needs the value of a, which failed"
    assert sum("Step A\n" in prompt for prompt in model.asked) == 3
    assert run.calls == 5


def test_every_kind_of_failure_ends_in_a_reason():
    for answer, reason in (
        (lambda _: "", "the model returned an empty response"),
        (lambda _: " \n", "the model returned an empty response"),
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
    ):
        run = Pearl(CountingModel(answer), executor=quick(retries=1)).invoke("?", "text", plan=THREE)
        assert (run.status, run.answer) == ("failed", "")
        assert run.reasons[0] == f"a: {reason}"


def test_a_failed_call_is_retried():
    tries = []

    def answer(prompt):
        tries.append(prompt)
        if tries.count(prompt) == 1:
            raise ModelError("busy")
        return by_step(prompt)

    run = Pearl(CountingModel(answer), executor=quick()).invoke("?", "text", plan=THREE)
    assert (run.status, run.calls) == ("done", 8)
    assert Pearl(CountingModel(lambda _: "x"), executor=quick(retries=0)).invoke("?", "text", plan=THREE).calls == 4


def test_a_call_that_hangs_is_abandoned():
    never = threading.Event()
    model = CountingModel(lambda prompt: by_step(prompt) if "Step A\n" not in prompt else str(never.wait(30)))
    run = Pearl(model, executor=quick(concurrency=1, step_timeout=1, retries=1)).invoke("?", "text", plan=THREE)
    never.set()
    assert run.reasons == ("a: the model did not respond within 1 seconds",)
    assert run.values == {"b": "value of B", "e": "value of E"}


def test_a_builtin_reports_what_it_expected():
    counting = plan('1. a = LIST_ALL(CTX, "x") : Step A', "2. b = COUNT(a) : Step B", '3. c = ABOUT(CTX, "c") : Step C')
    run = Pearl(ScriptedModel(by_step)).invoke("?", "text", plan=counting)
    assert run.reasons == ("b: COUNT: expected a list with one item per line, each after '- ', got 'value of A'",)
    assert run.answer == "value of A\n\nvalue of C\n\n"
    model = ScriptedModel(lambda prompt: "- one\n- two" if "Step A" in prompt else "none")
    done = Pearl(model).invoke("?", "text", plan=counting)
    assert done.values["b"] == "2"
    assert "one item per line" in next(p for p in model.asked if "Step A\n" in p)
    assert "one item per line" not in next(p for p in model.asked if "Step C\n" in p)


def test_a_budget_that_ends_in_the_middle_of_a_wave_is_not_passed():
    for batch in (False, True):
        model = CountingModel(by_step)
        budget = Budget(calls=2)
        run = Pearl(model, executor=quick(batch=batch)).invoke("?", "text", plan=THREE, budget=budget)
        assert len(model.asked) == 2
        assert budget.spent["calls"] == 2
        assert run.status == "partial"
        failed = [each for each in run.steps if each.status == "failed"]
        assert failed
        assert all("the budget is 2" in each.reason for each in failed)
        assert sum(each.status == "done" and not each.local for each in run.steps) == 2


def test_a_wave_uses_all_concurrent_calls_and_no_more():
    wide = plan(*(f'{n}. v{n} = ABOUT(CTX, "{n}") : Step A' for n in range(1, 9)))
    for concurrency in (1, 3, 8):
        model = CountingModel(together(concurrency, lambda _: "x"), seconds=0.02)
        run = Pearl(model, executor=quick(concurrency=concurrency)).invoke("?", "text", plan=wide)
        assert (run.status, model.most_at_once) == ("done", concurrency)


def test_a_thousand_concurrent_questions_respect_the_limit():
    model = CountingModel(by_step, seconds=0.001)
    pearl = Pearl(model, executor=quick(concurrency=6))

    async def ask():
        return await asyncio.gather(*(pearl.ainvoke(f"question {n}?", f"text {n}", plan=THREE) for n in range(1000)))

    runs = asyncio.run(ask())
    assert len(runs) == 1000
    assert {run.status for run in runs} == {"done"}
    assert model.most_at_once <= 6
    assert len(model.asked) == 4000


def test_a_cancelled_run_starts_no_further_call():
    off, begun = Cancellation(), threading.Event()

    def answer(prompt):
        begun.set()
        assert off.wait(60)
        return by_step(prompt)

    model = CountingModel(answer)
    threading.Thread(target=lambda: (begun.wait(), off.cancel())).start()
    run = Pearl(model, executor=quick(concurrency=1)).invoke("?", "text", plan=THREE, cancellation=off)
    assert run.status == "cancelled"
    assert len(model.asked) == 1
    # The call that was running may still have answered.
    assert sum(each.status == "done" and not each.local for each in run.steps) <= 1


def test_cancelling_a_task_cancels_its_question():
    go = threading.Event()
    model = CountingModel(lambda prompt: by_step(prompt) if go.wait(60) else "")
    pearl = Pearl(model, executor=quick(concurrency=1))

    async def ask():
        task = asyncio.create_task(pearl.ainvoke("?", "text", plan=THREE))
        while not model.asked:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await asyncio.sleep(0.3)  # in which another call could begin

    asyncio.run(ask())
    assert len(model.asked) == 1


def test_a_long_prefix_is_sent_alone_before_several_calls_that_share_it():
    text = "word " * 2000
    model = CountingModel(by_step)
    run = Pearl(model, executor=quick(concurrency=4)).invoke("?", text, plan=THREE)
    whole = model.count_tokens(next(prefix for prefix in model.prefixes if prefix))
    assert run.by_purpose == {"warm": 1, "step": 4}
    assert model.asked[0] == model.prefixes[1]
    assert run.usage.cached_tokens == 4 * whole  # every step found it
    cold = CountingModel(together(3, by_step))  # the three of the first wave
    never = Pearl(cold, executor=quick(concurrency=4, warm_tokens=None)).invoke("?", text, plan=THREE)
    assert never.usage.cached_tokens == whole  # the three of the first wave did not
    assert never.by_purpose == {"step": 4}
    again = Pearl(model, executor=quick(concurrency=4)).invoke("?", "short", plan=THREE)
    assert again.by_purpose == {"step": 4}


def test_each_window_is_warmed_and_models_are_kept_apart():
    text = " ".join(f"w{n:04}" for n in range(3950))
    shared = quick(concurrency=8)
    for name in ("one", "two"):
        model = CountingModel(lambda _: "x", seconds=0.001, fingerprint=name)
        pearl = Pearl(model, executor=shared, context=Windows(tokens=1500, overlap=0))
        run = pearl.invoke("?", text, plan=THREE)
        assert run.by_purpose == {"warm": 4, "window": 16, "step": 4}
    assert pearl.estimate(THREE, text).calls == 24
    assert pearl.invoke("again?", text, plan=THREE).by_purpose == {"window": 16, "step": 4}


def test_stream_yields_intermediate_results():
    stages = list(Pearl(ScriptedModel(by_step), executor=quick()).stream("?", "text", plan=THREE))
    assert stages[0] == THREE
    assert [each.step.out for each in stages[1:-1]] == ["a", "b", "e", "c", "d"]
    assert isinstance(stages[-1], Run)
    assert [each.step.out for each in stages[-1].steps] == ["a", "b", "c", "d", "e"]


def test_batch_keeps_the_order_and_accepts_one_document_or_one_each():
    def answer(prompt):
        return f"{by_step(prompt)} in {prompt.split('<text>')[1].split()[0]}"

    direct = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A'
    model = CountingModel(lambda prompt: direct if prompt.endswith("?\n\n") else answer(prompt))
    pearl = Pearl(model, executor=quick())
    runs = pearl.batch([f"question {n}?" for n in range(20)], [f"document{n}" for n in range(20)])
    assert [run.text for run in runs] == [f"value of A in document{n}" for n in range(20)]
    assert [run.question for run in runs] == [f"question {n}?" for n in range(20)]
    assert pearl.batch([]) == []
    assert {run.text for run in asyncio.run(pearl.abatch(["x?", "y?"], "one"))} == {"value of A in one"}
    with pytest.raises(InvalidInputError, match="document"):
        pearl.batch(["a?", "b?"], ["one"])
    with pytest.raises(InvalidInputError, match="questions"):
        pearl.batch("a?")


def test_forms_of_the_answer():
    def answer(prompt):
        return "the answer" if "Purpose: Answer the question\n" in prompt else by_step(prompt)

    model = ScriptedModel(answer)
    assert Pearl(model, answer="last").invoke("why?", "text", plan=THREE).answer == "value of E"
    run = Pearl(model, answer="synthesize").invoke("why it is so?", "text", plan=THREE)
    assert run.answer == "the answer"
    assert "<question>\nwhy it is so?\n</question>" in model.asked[-1]
    assert (
        "<notes>\nvalue of B\nvalue of C\n\n</notes>\n\nFound out before about e:\n<notes>\nvalue of E\n</notes>"
        in (model.asked[-1])
    )
    assert "<text>\ntext\n</text>" in model.asked[-1]
    Pearl(model, answer="synthesize", answer_reads_document=False).invoke("why?", "text", plan=THREE)
    assert "<text>" not in model.asked[-1]
    with pytest.raises(InvalidInputError, match="answer"):
        Pearl(model, answer="all")


def test_invalid_arguments_are_named():
    pearl = Pearl(ScriptedModel(by_step))
    with pytest.raises(InvalidInputError, match="question"):
        pearl.invoke(" ", "text")
    with pytest.raises(InvalidInputError, match="document"):
        pearl.invoke("?", 7)
    with pytest.raises(InvalidInputError, match="surrogate"):
        pearl.invoke("?", "a\ud800")
    run = pearl.invoke("?", plan=THREE)
    assert run.reasons[0] == "a: a reads the document, but none was given; pass `document`"
    for wrong in ({"concurrency": 0}, {"retries": -1}, {"step_timeout": 0}, {"retry_wait": -1}, {"max_tokens": True}):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            PlanExecutor(**wrong)


def test_the_estimate_is_close_to_the_usage_of_a_run():
    model = CountingModel(lambda _: "word " * 120)
    pearl = Pearl(model, executor=quick(concurrency=8))
    text = "word " * 4000
    guess = pearl.estimate(THREE, text)
    run = pearl.invoke("?", text, plan=THREE)
    assert (guess.calls, guess.critical_path) == (5, 2) == (run.calls, THREE.critical_path)
    assert abs(guess.prompt_tokens - run.usage.prompt_tokens) < 0.02 * run.usage.prompt_tokens
    assert abs(guess.cached_tokens - run.usage.cached_tokens) < 0.02 * run.usage.cached_tokens
    assert abs(guess.completion_tokens - run.usage.completion_tokens) < 0.05 * guess.completion_tokens
    assert guess.max_total_tokens > guess.prompt_tokens + guess.completion_tokens
    assert Pearl(model, executor=quick(batch=True)).estimate(THREE, text).calls == 4
    assert guess.cost == 0.0


class Cutting(CountingModel):
    """Reports responses that end in "…" as truncated."""

    def _one(self, prompt, sampling, warm):
        answer = super()._one(prompt, sampling, warm)
        return replace(answer, finish_reason="length") if answer.text.endswith("…") else answer


@pytest.mark.parametrize("batch", [False, True])
def test_the_usage_of_an_empty_response_counts(batch):
    empty = Counter()

    def answer(prompt):
        if not batch or "Step A\n" in prompt:
            empty[prompt] += 1
        return "" if empty[prompt] == 1 else by_step(prompt)

    model = CountingModel(answer)
    run = Pearl(model, executor=quick(batch=batch, retries=1)).invoke("why?", "text", plan=THREE)
    assert run.status == "done"
    assert len(model.asked) > 4
    assert run.usage.prompt_tokens == sum(map(model.count_tokens, model.asked))


def test_a_truncated_value_is_reported(tmp_path):
    model = Cutting(lambda prompt: "- one\n- two…" if "Step A\n" in prompt else by_step(prompt))
    run = Pearl(model, executor=quick()).invoke("why?", "text", plan=THREE, trace=tmp_path / "trace.jsonl")
    reason = "a: truncated at 512 tokens; raise `max_tokens` of PlanExecutor"
    assert (run.status, run.values["a"], run.reasons) == ("done", "- one\n- two…", (reason,))
    assert read_run(tmp_path / "trace.jsonl").reasons == (reason,)


def test_a_truncated_plan_is_not_run():
    whole = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A'

    def answer(prompt):
        if prompt.endswith("put right:\n\n"):
            assert "truncated at 768 tokens" in prompt
            return whole
        return f"{whole} and…" if prompt.endswith("?\n\n") else by_step(prompt)

    run = Pearl(Cutting(answer), executor=quick()).invoke("why?", "text")
    assert [found[0].code for _, found in run.planning.rejected] == ["cut-off"]
    assert run.plan.steps[0].note == "Step A"
