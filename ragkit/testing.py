"""Contract suites: what embedders, retrievers, selectors and language models must do, as test classes to subclass.

A subclass gives the part under test as a pytest fixture of the name that the tests ask for; the rest is inherited::

    class TestMyModel(LanguageModelContract):
        @pytest.fixture
        def model(self):
            return MyModel()

Nothing here imports pytest. Class attributes hold the inputs; override them where a part takes other ones.
"""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from ragkit.errors import InvalidInputError, SmallPoolWarning, UnsupportedError
from ragkit.protocols import AnyPrompt, Embedder, LanguageModel, Retriever, Selector
from ragkit.records import Completion, Document, Example, Hit, Prompt, Selection
from ragkit.where import matches, parse_where

__all__ = ["EmbedderContract", "LanguageModelContract", "RetrieverContract", "SelectorContract"]


class EmbedderContract:
    """What every `Embedder` must do; give it as the fixture ``embedder``.

    Attributes:
        texts: Three texts or more, all different.
        alike: Two texts and a third that is less like the first than the second is.
        tolerance: How far a vector may move with the batch that it is computed in.
    """

    texts: ClassVar[Sequence[str]] = (
        "a red lamp",
        "the river runs to the sea",
        "naïve café 東京 \x00 \U0001f600",
        "lamp",
    )
    alike: ClassVar[tuple[str, str, str]] = (
        "turn on the red lamp",
        "turn off the red lamp",
        "stock prices fell sharply",
    )
    tolerance: ClassVar[float] = 1e-5

    def test_fits_the_protocol(self, embedder: Embedder) -> None:
        """It has every member of `Embedder`."""
        assert isinstance(embedder, Embedder)
        assert embedder.name
        assert embedder.fingerprint

    def test_shape_and_dtype(self, embedder: Embedder) -> None:
        """Both methods give f32[n, d]."""
        for embed in (embedder.embed_documents, embedder.embed_queries):
            vectors = embed(list(self.texts))
            assert vectors.shape == (len(self.texts), embedder.dim)
            assert vectors.dtype == np.float32
            assert np.isfinite(vectors).all()

    def test_no_texts(self, embedder: Embedder) -> None:
        """No texts give f32[0, d]."""
        for embed in (embedder.embed_documents, embedder.embed_queries):
            vectors = embed([])
            assert vectors.shape == (0, embedder.dim)
            assert vectors.dtype == np.float32

    def test_length_is_one_or_zero(self, embedder: Embedder) -> None:
        """Rows have length 1; a text in which the embedder sees nothing may have length 0."""
        for embed in (embedder.embed_documents, embedder.embed_queries):
            lengths = np.linalg.norm(embed([*self.texts, "", "   "]), axis=1)
            assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))
            assert np.all(np.abs(lengths[: len(self.texts)] - 1) < 1e-4)

    def test_same_again(self, embedder: Embedder) -> None:
        """The same texts give the same vectors."""
        first, second = embedder.embed_documents(list(self.texts)), embedder.embed_documents(list(self.texts))
        assert np.array_equal(first, second)

    def test_order_and_batch_do_not_matter(self, embedder: Embedder) -> None:
        """A text has its vector wherever it stands, and whatever stands beside it."""
        together = embedder.embed_documents([*self.texts, "word " * 100])[: len(self.texts)]
        backwards = embedder.embed_documents(list(reversed(self.texts)))[::-1]
        alone = np.concatenate([embedder.embed_documents([text]) for text in self.texts])
        assert np.allclose(together, alone, atol=self.tolerance)
        assert np.allclose(backwards, alone, atol=self.tolerance)

    def test_different_texts_differ(self, embedder: Embedder) -> None:
        """Different texts have different vectors, and likeness is the inner product."""
        vectors = embedder.embed_documents(list(self.texts))
        likeness = vectors @ vectors.T
        assert np.all(likeness[~np.eye(len(self.texts), dtype=bool)] < 0.999)
        query, near, far = self.alike
        scores = embedder.embed_documents([near, far]) @ embedder.embed_queries([query])[0]
        assert scores[0] > scores[1]

    def test_a_bare_string_is_refused(self, embedder: Embedder) -> None:
        """One string is not a sequence of letters."""
        _assert_refused(lambda: embedder.embed_documents("abc"))
        _assert_refused(lambda: embedder.embed_queries("abc"))


class RetrieverContract:
    """What every `Retriever` must do; give one over exactly `documents` as the fixture ``retriever``.

    Attributes:
        documents: What is searched; every id and text different.
        queries: Texts to ask for, all different; the first is near to several documents.
        filters: Filters on the metadata of `documents`.
        ranks: False for a retriever whose choice of one document depends on the others; scores may then rise.
        whole: False for a retriever that gives other texts than those of the documents.
    """

    documents: ClassVar[Sequence[Document]] = (
        Document("dim the red lamp", id="dim-red", metadata={"colour": "red", "n": 0}),
        Document("dim the blue lamp", id="dim-blue", metadata={"colour": "blue", "n": 1}),
        Document("light the red lamp", id="light-red", metadata={"colour": "red", "n": 2}),
        Document("move the green lamp", id="move-green", metadata={"colour": "green", "n": 3}),
        Document("where is my card? naïve 東京 \U0001f600", id="odd \x7f 東", metadata={"n": 9, "tags": ["a", "b"]}),
        Document("!?", id="marks"),
    )
    queries: ClassVar[Sequence[str]] = ("dim the red lamp", "where is the card", "", "!?", "東京 \x00 \U0001f600")
    filters: ClassVar[Sequence[dict[str, object]]] = (
        {"colour": "red"},
        {"n": {"$gte": 1}},
        {"$or": [{"colour": "blue"}, {"tags": "b"}]},
        {"n": {"$exists": False}},
        {},
    )
    ranks: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    def test_fits_the_protocol(self, retriever: Retriever) -> None:
        """It has every member of `Retriever`."""
        assert isinstance(retriever, Retriever)

    def test_hits_are_documents(self, retriever: Retriever) -> None:
        """A hit has the id, text and metadata of a document, each once; ranks count up and scores never rise."""
        known = {each.id: each for each in self.documents}
        for query in self.queries:
            for k in (1, 3, len(self.documents), len(self.documents) + 5):
                hits = retriever.retrieve(query, k)
                assert len(hits) <= min(k, len(self.documents))
                assert len({hit.id for hit in hits}) == len(hits)
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                scores = [hit.score for hit in hits]
                assert all(math.isfinite(score) for score in scores)
                assert scores == sorted(scores, reverse=True) or not self.ranks
                for hit in hits:
                    assert hit.text == known[hit.id].text or not self.whole
                    assert dict(hit.metadata or {}) == dict(known[hit.id].metadata or {}) or not self.whole
        assert retriever.retrieve(self.queries[0], 1)

    def test_fewer_are_the_first_of_more(self, retriever: Retriever) -> None:
        """The k best are the first k of the 2k best."""
        for query in self.queries:
            if self.ranks:
                _assert_same([retriever.retrieve(query, 2)], [retriever.retrieve(query, 4)[:2]])

    def test_a_batch_equals_single_queries(self, retriever: Retriever) -> None:
        """A sequence gives a list of what single queries give, in its order; no queries give nothing."""
        batch = retriever.retrieve(list(self.queries), 3)
        _assert_same(batch, [retriever.retrieve(query, 3) for query in self.queries])
        _assert_same(retriever.retrieve(list(reversed(self.queries)), 3)[::-1], batch)
        assert retriever.retrieve([], 3) == []

    def test_aretrieve_equals_retrieve(self, retriever: Retriever) -> None:
        """The async form gives the same, for one query and for several, with a filter and without."""
        for where in (None, self.filters[0]):
            batch = asyncio.run(retriever.aretrieve(list(self.queries), 3, where=where))
            _assert_same(batch, retriever.retrieve(list(self.queries), 3, where=where))
            alone = asyncio.run(retriever.aretrieve(self.queries[0], 3, where=where))
            _assert_same([alone], batch[:1])
        assert asyncio.run(retriever.aretrieve([], 3)) == []

    def test_filters(self, retriever: Retriever) -> None:
        """Only what matches is found, and it is not crowded out by what does not."""
        metadata = {each.id: each.metadata for each in self.documents}
        for where in self.filters:
            condition = parse_where(where)
            for query in self.queries:
                every = retriever.retrieve(query, len(self.documents), where=where)
                assert all(matches(condition, metadata[hit.id]) for hit in every)
                first = retriever.retrieve(query, 1, where=where)
                assert len(first) == min(1, len(every))
                unfiltered = {hit.id for hit in retriever.retrieve(query, len(self.documents))}
                assert {own for own in unfiltered if matches(condition, metadata[own])} <= {hit.id for hit in every}
        assert retriever.retrieve(self.queries[0], 3, where={"n": 12345}) == []

    def test_k_of_nothing(self, retriever: Retriever) -> None:
        """None are asked for, none come."""
        assert retriever.retrieve(self.queries[0], 0) == []
        assert retriever.retrieve(list(self.queries), 0) == [[] for _ in self.queries]

    def test_bad_arguments(self, retriever: Retriever) -> None:
        """What cannot be meant is refused."""
        query = self.queries[0]
        for k in (-1, 1.5, "3", True):
            _assert_refused(partial(retriever.retrieve, query, k))
        _assert_refused(lambda: retriever.retrieve(query, 1, where={"n": {"$near": 1}}))
        _assert_refused(lambda: retriever.retrieve([query, None], 1))  # type: ignore[list-item]


class SelectorContract:
    """What every `Selector` must do; give one over a pool of 5 to 500 examples as the fixture ``selector``.

    Attributes:
        queries: Texts to ask for, all different.
        ranks: False for a selector whose choice of one example depends on the others, as stages that choose sets do.
    """

    ranks: ClassVar[bool] = True
    queries: ClassVar[Sequence[str]] = ("dim the red lamp", "", "where is my card?", "!?", "naïve 東京 \U0001f600")

    def test_fits_the_protocol(self, selector: Selector) -> None:
        """It has every member of `Selector`, and a pool."""
        assert isinstance(selector, Selector)
        assert 5 <= len(selector) <= 500

    def test_k_examples_with_their_hits(self, selector: Selector) -> None:
        """As many examples come as asked for, each once, with id and rank; scores never rise."""
        for query in self.queries:
            for k in (1, 3, len(selector)):
                chosen = selector.select(query, k)
                _assert_consistent(chosen, ranks=self.ranks)
                assert len(chosen) == k

    def test_fewer_are_the_first_of_more(self, selector: Selector) -> None:
        """The k best are the first k of the 2k best."""
        if not self.ranks:
            return
        for query in self.queries:
            assert selector.select(query, 2).examples == selector.select(query, 4).examples[:2]

    def test_same_again(self, selector: Selector) -> None:
        """The same query gets the same examples, whatever was asked in between."""
        first = [selector.select(query, 3) for query in self.queries]
        second = [selector.select(query, 3) for query in reversed(self.queries)][::-1]
        assert _shown(first) == _shown(second)

    def test_select_many_equals_select(self, selector: Selector) -> None:
        """A batch gives what single calls give, in its order; no queries give nothing."""
        many = selector.select_many(list(self.queries), 3)
        assert _shown(many) == _shown([selector.select(query, 3) for query in self.queries])
        assert selector.select_many([], 3) == []

    def test_aselect_equals_select(self, selector: Selector) -> None:
        """The async form gives the same."""
        for query in self.queries:
            assert _shown([asyncio.run(selector.aselect(query, 3))]) == _shown([selector.select(query, 3)])

    def test_excluded_ids_stay_out(self, selector: Selector) -> None:
        """An excluded example is not chosen, and the others keep their order; unknown ids change nothing."""
        for query in self.queries:
            ranked = [hit.id for hit in selector.select(query, len(selector)).hits]
            excluded = [ranked[0], ranked[2], "no such id \x00"]
            kept = [hit.id for hit in selector.select(query, 2, exclude=excluded).hits]
            assert not set(kept) & set(excluded)
            assert kept == [ranked[1], ranked[3]] or not self.ranks

    def test_filter(self, selector: Selector) -> None:
        """A filter on metadata bars what does not match, and one on a field that no example has is refused."""
        selector.add([Example("red lamp", "x", id="own 1", metadata={"own": 1}), Example("red", "x", id="own 2")])
        chosen = selector.select(self.queries[0], 1, where={"own": 1})
        assert [hit.id for hit in chosen.hits] == ["own 1"]
        _assert_refused(lambda: selector.select(self.queries[0], 1, where={"nowhere": 1}))

    def test_add_and_remove(self, selector: Selector) -> None:
        """What is added can be chosen, what is removed cannot, and the rest is as it was."""
        before = [_shown(selector.select_many(list(self.queries), 3)), len(selector)]
        assert selector.add([Example("entirely new", "x", id="new")]) == ["new"]
        assert "new" in [hit.id for hit in selector.select("entirely new", len(selector)).hits]
        _assert_refused(lambda: selector.add([Example("again", "x", id="new")]))
        assert selector.remove(["new", "no such id \x00"]) == 1
        assert [_shown(selector.select_many(list(self.queries), 3)), len(selector)] == before

    def test_save(self, selector: Selector, tmp_path: Path) -> None:
        """What is read from a folder chooses as what was saved in it."""
        selector.save(tmp_path / "selector")
        again = type(selector).load(tmp_path / "selector")  # type: ignore[attr-defined]
        assert _shown(again.select_many(list(self.queries), 3)) == _shown(selector.select_many(list(self.queries), 3))

    def test_more_than_the_pool(self, selector: Selector) -> None:
        """More than there are gives all, with a `SmallPoolWarning`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chosen = selector.select(self.queries[0], len(selector) + 1)
        _assert_consistent(chosen, ranks=self.ranks)
        assert len(chosen) == len(selector)
        assert [entry for entry in caught if issubclass(entry.category, SmallPoolWarning)]

    def test_bad_arguments(self, selector: Selector) -> None:
        """A negative k, and one query where several are expected, are refused."""
        _assert_refused(lambda: selector.select(self.queries[0], -1))
        _assert_refused(lambda: selector.select_many(self.queries[0], 1))


class LanguageModelContract:
    """What every `LanguageModel` must do; give it as the fixture ``model``.

    Attributes:
        prompts: Prompts of different lengths that the model can answer, all different.
        max_tokens: Enough for an answer of a few tokens.
        tolerance: How far a score may move with the batch that it is computed in, in nats.
        writes_tokens: False for a model that answers without writing tokens, such as a classifier.
    """

    prompts: ClassVar[Sequence[AnyPrompt]] = (
        "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:",
        "one two three one two three one two",
        Prompt("Input: red\nOutput: rot\n\n", "Input: red\nOutput:"),
        "naïve café 東京 \U0001f600",
    )
    max_tokens: ClassVar[int] = 16
    tolerance: ClassVar[float] = 1e-3
    writes_tokens: ClassVar[bool] = True

    def test_fits_the_protocol(self, model: LanguageModel) -> None:
        """It has every member of `LanguageModel`."""
        assert isinstance(model, LanguageModel)
        assert model.name
        assert model.fingerprint
        window = model.capabilities.window
        assert window is None or window > 0

    def test_one_prompt_gives_one_completion(self, model: LanguageModel) -> None:
        """A bare prompt is one input, a sequence gives a list."""
        for prompt in self.prompts:
            alone = model.generate(prompt, max_tokens=self.max_tokens)
            listed = model.generate([prompt], max_tokens=self.max_tokens)
            assert isinstance(alone, Completion)
            assert isinstance(listed, list)
            assert _said(listed) == _said([alone])

    def test_no_prompts(self, model: LanguageModel) -> None:
        """An empty sequence gives an empty list."""
        assert model.generate([], max_tokens=self.max_tokens) == []

    def test_order_and_batch_do_not_matter(self, model: LanguageModel) -> None:
        """Every prompt has its answer, wherever it stands and whatever stands beside it."""
        alone = [model.generate(prompt, max_tokens=self.max_tokens) for prompt in self.prompts]
        batch = model.generate(list(self.prompts), max_tokens=self.max_tokens)
        backwards = model.generate(list(reversed(self.prompts)), max_tokens=self.max_tokens)
        assert _said(batch) == _said(alone)
        assert _said(backwards[::-1]) == _said(alone)
        assert list(map(_tokens, batch)) == list(map(_tokens, alone))

    def test_agenerate_equals_generate(self, model: LanguageModel) -> None:
        """The async form gives the same, for one prompt and for several."""
        batch = asyncio.run(model.agenerate(list(self.prompts), max_tokens=self.max_tokens))
        assert _said(batch) == _said(model.generate(list(self.prompts), max_tokens=self.max_tokens))
        alone = asyncio.run(model.agenerate(self.prompts[0], max_tokens=self.max_tokens))
        assert _said([alone]) == _said(batch[:1])

    def test_stream_joins_to_generate(self, model: LanguageModel) -> None:
        """The pieces of a stream are the answer."""
        for prompt in self.prompts:
            pieces = list(model.stream(prompt, max_tokens=self.max_tokens))
            assert all(isinstance(piece, str) for piece in pieces)
            assert "".join(pieces) == model.generate(prompt, max_tokens=self.max_tokens).text

    def test_usage(self, model: LanguageModel) -> None:
        """Tokens are counted, and no more than `max_tokens` are written."""
        for answer in model.generate(list(self.prompts), max_tokens=self.max_tokens):
            assert answer.usage.prompt_tokens > 0
            assert 0 <= answer.usage.cached_tokens <= answer.usage.prompt_tokens
            assert 0 <= answer.usage.completion_tokens <= self.max_tokens
            assert answer.usage.completion_tokens > 0 or not answer.text or not self.writes_tokens
            assert answer.seconds >= 0
            assert answer.cost is None or answer.cost >= 0

    def test_max_tokens(self, model: LanguageModel) -> None:
        """A shorter answer is the beginning of the longer one, and says that it was cut."""
        for prompt in self.prompts:
            whole = model.generate(prompt, max_tokens=self.max_tokens)
            if whole.usage.completion_tokens < 2:
                continue
            most = whole.usage.completion_tokens - 1
            short = model.generate(prompt, max_tokens=most)
            assert short.usage.completion_tokens <= most
            assert short.finish_reason == "length"
            assert whole.text.startswith(short.text.rstrip("\ufffd"))
            assert len(short.text) <= len(whole.text)

    def test_stop(self, model: LanguageModel) -> None:
        """An answer ends before the first stop sequence."""
        for prompt in self.prompts:
            whole = model.generate(prompt, max_tokens=self.max_tokens).text
            for start in range(0, len(whole) - 1, 3):
                stop = whole[start : start + 2]
                if "\ufffd" in stop:
                    continue
                answer = model.generate(prompt, max_tokens=self.max_tokens, stop=["\x00 never \x00", stop])
                assert stop not in answer.text
                assert answer.text == whole[: whole.find(stop)]
                assert answer.finish_reason == "stop"

    def test_same_seed_same_answer(self, model: LanguageModel) -> None:
        """With the same seed sampling gives the same, and single calls equal the batch, where seeds are honoured."""
        if not model.capabilities.seed:
            return
        prompts = list(self.prompts)
        first = model.generate(prompts, max_tokens=self.max_tokens, temperature=1.0, seed=3)
        again = [model.generate(prompt, max_tokens=self.max_tokens, temperature=1.0, seed=3) for prompt in prompts]
        assert _said(first) == _said(again)

    def test_bad_arguments(self, model: LanguageModel) -> None:
        """What cannot be meant is refused before any work, whatever the prompt."""
        prompt = self.prompts[0]
        for most in (0, -1):
            _assert_refused(partial(model.generate, prompt, max_tokens=most))
        for temperature in (-0.1, math.nan, math.inf):
            _assert_refused(partial(model.generate, prompt, temperature=temperature))
        for stop in ("text", ("",), ("fine", "")):
            _assert_refused(partial(model.generate, prompt, stop=stop))
        _assert_refused(lambda: model.generate([prompt, None], max_tokens=1))  # type: ignore[list-item]

    def test_score(self, model: LanguageModel) -> None:
        """Scores are f64[n, c] log-likelihoods, each its own whatever the batch; or `UnsupportedError` is raised."""
        prompts, choices = list(self.prompts), self.choices(model)
        if not model.capabilities.score:
            refused = False
            try:
                model.score(prompts, choices)
            except UnsupportedError:
                refused = True
            assert refused, "a model without `capabilities.score` must raise UnsupportedError"
            return
        scores = model.score(prompts, choices)
        assert scores.shape == (len(prompts), len(choices))
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert np.all(scores <= 1e-9)
        assert model.score([], choices).shape == (0, len(choices))
        assert model.score(prompts, []).shape == (len(prompts), 0)
        alone = [[model.score([prompt], [choice])[0, 0] for choice in choices] for prompt in prompts]
        assert np.allclose(scores, alone, atol=self.tolerance)
        _assert_refused(lambda: model.score("abc", choices))
        _assert_refused(lambda: model.score(prompts, "abc"))

    def test_count_tokens(self, model: LanguageModel) -> None:
        """Nothing has no tokens, and more text has no fewer."""
        assert model.count_tokens("") == 0
        assert 0 < model.count_tokens("lamp") <= model.count_tokens("lamp lamp lamp lamp")

    def choices(self, model: LanguageModel) -> Sequence[str]:  # noqa: ARG002 - for subclasses
        """What `test_score` scores; override where a model knows only certain answers.

        Args:
            model: The model under test.

        Returns:
            Continuations of different lengths.
        """
        return [" fade", " dim the lamp", " rot, rot", " 東京"]


def _assert_refused(call: Callable[[], object]) -> None:
    said = None
    try:
        call()
    except InvalidInputError as error:
        said = str(error)
    assert said, "expected an InvalidInputError that says what is wrong"


def _assert_consistent(chosen: Selection, *, ranks: bool) -> None:
    assert isinstance(chosen, Selection)
    assert len(chosen) == len(chosen.hits) == len({hit.id for hit in chosen.hits})
    assert [hit.rank for hit in chosen.hits] == list(range(1, len(chosen) + 1))
    scores = [hit.score for hit in chosen.hits]
    assert all(math.isfinite(score) for score in scores)
    assert scores == sorted(scores, reverse=True) or not ranks
    for example, hit in zip(chosen, chosen.hits, strict=True):
        assert example.id is None or example.id == hit.id


def _shown(selections: Sequence[Selection]) -> list[list[tuple[str, str]]]:
    return [
        [(hit.id, example.output) for hit, example in zip(chosen.hits, chosen, strict=True)] for chosen in selections
    ]


def _assert_same(one: Sequence[Sequence[Hit]], other: Sequence[Sequence[Hit]]) -> None:
    assert [[hit.id for hit in hits] for hits in one] == [[hit.id for hit in hits] for hits in other]
    for left, right in zip(one, other, strict=True):
        assert np.allclose([hit.score for hit in left], [hit.score for hit in right], atol=1e-3)


def _tokens(answer: Completion) -> tuple[int, int]:
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


def _said(answers: Sequence[Completion]) -> list[tuple[str, str]]:
    return [(answer.text, answer.finish_reason) for answer in answers]
