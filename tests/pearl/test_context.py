"""Contexts: the whole document, its parts, retrieved passages or pages; the document is never truncated."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_pearl import THREE, CountingModel, by_step, plan, quick

from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import InvalidInputError, PromptTooLongError
from ragkit.index import Index
from ragkit.models._base import ModelBase
from ragkit.models._prompts import prompt_text
from ragkit.records import Document, Hit
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.instructions import subjects_of
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Ctx, Plan, Variable
from ragkit_pipelines.pearl.plan.planner import ZeroShot
from ragkit_pipelines.pearl.prompts import step_prompt
from ragkit_pipelines.pearl.run.context import Context, WholeText, Windows
from ragkit_pipelines.pearl.run.passages import cut
from ragkit_pipelines.pearl.run.retrieval_contexts import GistPages, Retrieved

ONE = plan('1. a = ABOUT(CTX, "the whale") : Step A')
STORY = "\n\n".join(
    [*(f"Paragraph {n} tells of the sea and of nothing else." for n in range(40)), "The whale sank the ship at dawn."]
    + [f"Paragraph {n} tells of the land and of nothing else." for n in range(40, 80)]
)


def count(text):
    return -(-len(text.encode()) // 4)


@given(st.text("ab .\n\u4e2d", max_size=400), st.integers(1, 40), st.integers(0, 10))
@settings(max_examples=300, deadline=None)
def test_passages_contain_the_whole_text_within_their_size(text, tokens, overlap):
    passages = cut(text, tokens, count, overlap=overlap)
    assert all(text[slice(*passage.span)] == passage.text for passage in passages)
    assert all(count(passage.text) <= tokens or len(passage.text) == 1 for passage in passages)
    held = {at for passage in passages for at in range(*passage.span)}
    assert all(at in held for at, letter in enumerate(text) if not letter.isspace())
    assert [passage.span for passage in passages] == sorted(passage.span for passage in passages)


def test_passages_end_where_paragraphs_do():
    assert all(
        passage.text.startswith(("Par", "The")) and passage.text.endswith(".") for passage in cut(STORY, 60, count)
    )


@pytest.mark.parametrize("context", [WholeText(), Windows(), Retrieved(), GistPages()])
def test_contexts_fit_the_protocol(context):
    assert isinstance(context, Context)
    assert context.fingerprint


def test_a_text_that_is_too_long_is_refused_with_alternatives():
    with pytest.raises(PromptTooLongError, match=r"Windows\(.*Retrieved\(.*GistPages\(") as caught:
        Pearl(CountingModel(by_step), context=WholeText(max_tokens=100)).invoke("?", STORY, plan=ONE)
    assert (caught.value.tokens, caught.value.window) == (count(STORY), 100)
    with pytest.raises(PromptTooLongError, match="max_windows"):
        Pearl(CountingModel(by_step), context=Windows(tokens=50, max_windows=3)).invoke("?", STORY, plan=ONE)
    with pytest.raises(PromptTooLongError, match="gist_tokens"):
        Pearl(CountingModel(by_step), context=GistPages(page_tokens=50, max_tokens=500)).invoke("?", STORY, plan=ONE)
    for wrong in (lambda: Windows(tokens=1), lambda: Retrieved(k=0), lambda: GistPages(pages=0), lambda: Retrieved(7)):
        with pytest.raises(InvalidInputError):
            wrong()


def test_the_window_of_the_model_counts(tiny):
    window = tiny.capabilities.window
    assert WholeText().open("word", tiny)
    with pytest.raises(PromptTooLongError):
        WholeText().open("word " * window, tiny)


def test_windows_are_read_separately_and_merged():
    model = CountingModel(
        lambda prompt: "whole" if "Combine them into one result" in prompt else f"part{prompt.count('whale')}"
    )
    run = Pearl(model, executor=quick(), context=Windows(tokens=300, overlap=40)).invoke("?", STORY, plan=ONE)
    parts = cut(STORY, 300, count, overlap=40)
    assert len(parts) > 3
    assert run.answer == "whole\n\n"
    assert run.by_purpose == {"window": len(parts), "step": 1}
    asked = [prompt for prompt in model.asked if "Combine them into one result" not in prompt]
    for number, (prompt, part) in enumerate(zip(sorted(asked, key=lambda p: p.index("part ")), parts, strict=False), 1):
        assert f"This is only part {number} of {len(parts)}" in "".join(asked)
        assert any(f"<text>\n{part.text}\n</text>" in each for each in asked), prompt
    merged = model.asked[-1]
    assert merged.count("<part>") == len(parts)
    assert STORY[:200] not in merged
    short = Pearl(CountingModel(by_step), executor=quick(), context=Windows()).invoke("?", "short", plan=ONE)
    assert short.by_purpose == {"step": 1}


def test_a_part_that_fails_fails_the_step():
    model = CountingModel(lambda prompt: "" if "only part 2 of" in prompt else "x")
    run = Pearl(model, executor=quick(retries=0), context=Windows(tokens=300)).invoke("?", STORY, plan=ONE)
    assert (run.status, run.reasons) == ("failed", ("a: the model returned an empty response",))
    assert not any("Make one result" in prompt for prompt in model.asked)


def test_passages_are_retrieved_by_the_words_of_the_step():
    model = CountingModel(by_step)
    run = Pearl(model, executor=quick(), context=Retrieved(k=3, passage_tokens=40, max_tokens=90)).invoke(
        "?", STORY, plan=ONE
    )
    shown = run.steps[0].passages
    assert any("whale sank the ship" in passage.text for passage in shown)
    assert all(STORY[slice(*passage.span)] == passage.text for passage in shown)
    assert sum(count(passage.text) for passage in shown) <= 90
    assert len(shown) == 2
    assert shown == tuple(sorted(shown, key=lambda passage: passage.span))
    assert all(f"<passage>\n{passage.text}\n</passage>" in model.asked[0] for passage in shown)
    assert "<text>" not in model.asked[0]
    assert "at characters" in run.explain()


def test_retrieval_uses_the_values_that_a_step_reads():
    queries = []

    class Recording:
        def retrieve(self, asked, k=10):
            queries.extend(asked)
            return [[Hit(id="1", score=1.0, rank=1, text="a passage")] for _ in asked]

    run = Pearl(CountingModel(by_step), executor=quick(), context=Retrieved(Recording())).invoke("?", plan=THREE)
    assert run.status == "done"
    assert next(query for query in queries if "Step C" in query) == "Step C\nvalue of A\nc"
    assert run.steps[0].passages[0].span is None


def test_an_index_is_a_retriever(tmp_path):
    with Index.create(None, embedder=HashingEmbedder(256)) as index:
        index.add([Document("the whale sank the ship", id="a"), Document("bread is baked at night", id="b")])
        model = CountingModel(by_step)
        context = Retrieved(index, k=1)
        run = Pearl(model, executor=quick(), context=context).invoke("?", plan=ONE)
    assert "<passage>\nthe whale sank the ship\n</passage>" in model.asked[0]
    assert run.status == "done"
    assert context.fingerprint == "retrieved:Index:1:2000:200"


def test_a_retriever_can_be_made_from_the_passages():
    def make(documents):
        class Last:
            def retrieve(self, asked, k=10):
                found = documents[-1]
                return [[Hit(id=found.id, score=1.0, rank=1, text=found.text, metadata=found.metadata)] for _ in asked]

        return Last()

    run = Pearl(CountingModel(by_step), context=Retrieved(make, passage_tokens=40)).invoke("?", STORY, plan=ONE)
    assert run.steps[0].passages[0].text.endswith("Paragraph 79 tells of the land and of nothing else.")


def test_passages_that_are_too_long_are_not_truncated():
    run = Pearl(CountingModel(by_step), context=Retrieved(k=2, passage_tokens=60, max_tokens=5)).invoke(
        "?", STORY, plan=ONE
    )
    assert "`max_tokens` of Retrieved" in run.reasons[0]
    empty = Pearl(CountingModel(by_step), context=Retrieved()).invoke("?", " ", plan=ONE)
    assert (empty.status, empty.steps[0].passages) == ("done", ())


def test_gists_are_generated_once_and_pages_are_selected():
    def answer(prompt):
        if prompt.endswith("Gist:\n"):
            return "gist of " + ("the whale" if "whale" in prompt else "nothing")
        if prompt.endswith("Pages:\n"):
            listed = next(line for line in prompt.splitlines() if "whale" in line and line.startswith("[Page"))
            return f"I want {listed.split(']')[0].split()[1]}, 9999 and 0."
        return by_step(prompt)

    pages = cut(STORY, 100, count)
    model = CountingModel(answer)
    context = GistPages(page_tokens=100, pages=2)
    run = Pearl(model, executor=quick(), context=context).invoke("?", STORY, plan=plan(
        '1. a = ABOUT(CTX, "the whale") : Step A', '2. b = ABOUT(CTX, "the ship") : Step B'))  # fmt: skip
    assert run.by_purpose == {"gist": len(pages), "pages": 2, "step": 2}
    assert ["whale sank" in passage.text for passage in run.steps[0].passages] == [True]
    asked = [prompt for prompt in model.asked if "Purpose: Step A\n" in prompt]
    assert "[Page 1] gist of nothing" in asked[0]
    prefixes = {p for p, text in zip(model.prefixes, model.asked, strict=True) if "\nTask: " in text}
    assert len(prefixes) == 1
    broken = CountingModel(lambda prompt: "" if prompt.endswith("Gist:\n") else "x")
    run = Pearl(broken, executor=quick(retries=0), context=context).invoke("?", STORY, plan=ONE)
    assert run.reasons == ("a: the gist of a page could not be generated: the model returned an empty response",)


def test_estimates_know_the_context():
    for context in (Windows(tokens=300), Retrieved(k=3, passage_tokens=40, max_tokens=90), GistPages(page_tokens=100)):
        model = CountingModel(lambda prompt: "word " * 120 if not prompt.endswith("Pages:\n") else "1")
        pearl = Pearl(model, executor=quick(warm_tokens=None), context=context)
        guess, run = pearl.estimate(THREE, STORY), pearl.invoke("?", STORY, plan=THREE)
        assert guess.calls == run.calls
        assert abs(guess.prompt_tokens - run.usage.prompt_tokens) < 0.4 * run.usage.prompt_tokens


class Recording(ModelBase):
    """Another model that keeps what it was asked."""

    def __init__(self, model) -> None:
        self.model, self.asked = model, []
        self.count_tokens = model.count_tokens

    name = property(lambda self: self.model.name)
    fingerprint = property(lambda self: self.model.fingerprint)
    capabilities = property(lambda self: self.model.capabilities)

    def _complete(self, prompts, sampling):
        self.asked += [prompt_text(prompt) for prompt in prompts]
        return self.model.generate(prompts, **asdict(sampling))


def test_a_real_plan_over_a_real_article_on_the_tiny_model(data, tiny):
    rows = (json.loads(line) for line in (data / "longdoc/quality_sample.jsonl").read_text().splitlines())
    article = next(row["article"] for row in rows)
    library = ActionLibrary.from_text((data / "pearl/actions.txt").read_text())
    texts = [json.loads(line)["plan"] for line in (data / "pearl/plans.jsonl").read_text().splitlines()]
    real = next(p for p in (Plan.parse(text, library) for text in texts) if p.critical_path == 2 and len(p.steps) == 3)
    model = Recording(tiny)
    pearl = Pearl(
        model,
        library=library,
        executor=quick(max_tokens=12, retries=0),
        context=Retrieved(k=4, passage_tokens=24, max_tokens=48),
    )
    run = pearl.invoke("What is it about?", article, plan=real)
    assert [each.status for each in run.steps] == ["done"] * 3, run.reasons
    values, asked, subjects = {}, [], subjects_of(real.steps)
    for each in run.steps:
        named = {
            each.step.action.parameter(at): values[a.name] if isinstance(a, Variable) else a.value
            for at, a in enumerate(each.step.arguments)
            if not isinstance(a, Ctx)
        }
        if each.local:
            assert each.value == "".join(value + "\n" for value in named.values())
        else:
            assert each.passages
            assert all(article[slice(*passage.span)] == passage.text for passage in each.passages)
            assert sum(tiny.count_tokens(passage.text) for passage in each.passages) <= 48
            shown = [passage.text for passage in each.passages]
            asked.append(step_prompt(each.step, named, shared="", passages=shown, subjects=subjects).text)
            assert each.value == tiny.generate(asked[-1], max_tokens=12).text
        values[each.step.out] = each.value
    assert model.asked == asked
    assert len(asked) == run.calls == 2


def test_the_direct_answer_works_in_every_context():
    for context in (WholeText(), Windows(tokens=300), Retrieved(), GistPages(page_tokens=100)):
        model = CountingModel(lambda _: "1")
        run = Pearl(model, context=context).invoke("Who sank the ship?", STORY, plan=ZeroShot().plan())
        assert run.status == "done"
        assert all(
            "<question>\nWho sank the ship?\n</question>" in prompt
            for prompt in model.asked
            if not prompt.endswith(("Gist:\n", "Pages:\n")) and "Task:" in prompt
        )


def test_neighbouring_passages_share_the_overlap():
    text = "".join(chr(97 + place % 26) for place in range(100))
    spans = [passage.span for passage in cut(text, 40, len, overlap=10)]
    assert spans == [(0, 40), (30, 70), (60, 100)]
