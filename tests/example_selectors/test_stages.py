"""Stages behind selectors: what they choose, drop and order, alone and together."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import FewShot, ScriptedModel
from ragkit._text import folded, words
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import GroupedLabelsWarning, InvalidInputError, UnknownSpecError, UnsupportedError
from ragkit.records import Example, Selection
from ragkit.templates import Template
from ragkit_selectors import (
    BM25Selector,
    Coverage,
    Dpp,
    EmbeddingSelector,
    FixedSelector,
    Guard,
    HybridSelector,
    JaccardSelector,
    LabelBalanced,
    LabelNearest,
    MinScore,
    Mmr,
    Order,
    Pinned,
    Rerank,
    TfidfSelector,
    TokenLimit,
    base,
    load_selector,
)

POOL = [
    Example("dim the lamp", "light", id="a"),
    Example("Dim the lamp!", "light", id="b"),
    Example("dim the lamp in the hall", "light", id="c"),
    Example("play the song", "music", id="d"),
    Example("play the song in the hall", "music", id="e"),
    Example("open the door", "door", id="f"),
    Example("open the door in the hall", "door", id="g"),
]


def ids(selection):
    return [hit.id for hit in selection.hits]


def test_guard_leaves_out_the_query_and_duplicates():
    selection = (JaccardSelector(POOL) | Guard(near=0.7)).select("please dim the lamp in the hall", 3)
    assert ids(selection) == ["a", "e", "g"]  # c is nearly the query, b is a but for case
    assert dict(selection.dropped) == {
        "c": "nearly the same text as the query (Jaccard 0.83)",
        "b": "same text as 'a'",
    }
    exact = (JaccardSelector(POOL) | Guard(near=None)).select("DIM THE LAMP", 7)
    assert set(dict(exact.dropped)) == {"a", "b"}
    assert len(exact) == 5


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "A", "!"]), max_size=4).map(" ".join), min_size=1, max_size=40
    ),
    query=st.lists(st.sampled_from(["a", "b", "c"]), max_size=4).map(" ".join),
    k=st.integers(1, 6),
    near=st.sampled_from([None, 0.5, 0.9]),
)
def test_guard_goes_on_until_it_has_k(texts, query, k, near):
    def alike(one, other):
        if folded(one) == folded(other):
            return True
        union = set(words(one)) | set(words(other))
        return near is not None and bool(union) and len(set(words(one)) & set(words(other))) / len(union) >= near

    expected = []
    for example in JaccardSelector([Example(text, "x") for text in texts]).select(query, len(texts)):
        if not any(alike(example.input, other) for other in [query, *expected]):
            expected.append(example.input)
    k = min(k, len(texts))
    chosen = (JaccardSelector([Example(text, "x") for text in texts]) | Guard(near)).select(query, k)
    assert [example.input for example in chosen] == expected[:k]


def test_printing_a_selection_shows_examples_and_dropped_candidates():
    selection = (JaccardSelector(POOL) | Guard(near=0.7)).select("please dim the lamp in the hall", 2)
    first, second = selection.hits
    assert str(selection).splitlines() == [
        "examples: 2",
        f"1. {first.score:.3f} 'dim the lamp' -> 'light'",
        f"2. {second.score:.3f} 'play the song in the hall' -> 'music'",
        *(f"dropped '{name}': {reason}" for name, reason in selection.dropped),
    ]
    by_hand = Selection(
        examples=(Example("x" * 999, "\x1b[2J"),), tokens=7, dropped=tuple((str(n), "old") for n in range(13))
    )
    head, example, *dropped = str(by_hand).splitlines()
    assert (head, dropped[-2:]) == ("examples: 1, tokens: 7", ["dropped '9': old", "3 more dropped"])
    assert example.endswith(r" -> '\x1b[2J'")
    assert len(example) < 130


def test_min_score_may_leave_nothing():
    selector = JaccardSelector(POOL) | MinScore(jaccard=0.5)
    assert ids(selector.select("dim the lamp", 7)) == ["a", "b", "c"]
    nothing = selector.select("unrelated", 3)
    assert (len(nothing), dict(nothing.dropped)) == (0, dict.fromkeys("abc", "jaccard 0.000 is below 0.5"))
    both = BM25Selector(POOL) | MinScore(0.1, jaccard=0.9)
    assert ids(both.select("play the song", 3)) == ["d"]
    cosine = EmbeddingSelector(POOL, embedder="hash:64") | MinScore(cosine=0.99)
    assert ids(cosine.select("open the door", 3)) == ["f"]
    hybrid = HybridSelector(POOL, embedder="hash:64") | MinScore(cosine=0.99)
    assert ids(hybrid.select("open the door", 3)) == ["f"]
    with pytest.raises(InvalidInputError, match="needs an embedding selector before it, not BM25Selector"):
        (BM25Selector(POOL) | MinScore(cosine=0.5)).select("x", 1)
    with pytest.raises(InvalidInputError, match="needs a bound"):
        MinScore()


def test_token_limit_skips_what_does_not_fit_and_goes_on():
    long = Example("dim the lamp " + "very " * 50 + "slowly", "light", id="long")
    selector = JaccardSelector([long, *POOL]) | TokenLimit(40)
    selection = selector.select("dim the lamp very slowly", 4)
    count = lambda text: len(re.findall(r"\w+|[^\w\s]", text))  # noqa: E731
    sizes = {example.id: count(Template().render_example(example)) for example in selection}
    assert selection.tokens == sum(sizes.values()) <= 40
    assert "long" not in ids(selection)
    assert re.match(r"\d+ tokens do not fit: 0 of 40 are taken", dict(selection.dropped)["long"])
    assert len(selection) == 4
    assert (JaccardSelector(POOL) | TokenLimit(0)).select("lamp", 3).tokens == 0


def test_token_limit_counts_as_it_is_told(tiny):
    for counter in (tiny, tiny.count_tokens, "tiny"):
        selection = (JaccardSelector(POOL) | TokenLimit(60, counter)).select("dim the lamp", 5)
        assert selection.tokens == sum(tiny.count_tokens(Template().render_example(each)) for each in selection) <= 60


def test_label_nearest_takes_one_of_each_label_in_turn():
    selector = JaccardSelector(POOL) | LabelNearest()
    assert [example.output for example in selector.select("dim the lamp", 3)] == ["light", "music", "door"]
    assert ids(selector.select("dim the lamp", 6)) == ["a", "d", "f", "b", "e", "g"]
    assert selector.select("dim the lamp", 6).hits[3].why["label_turn"] == 2
    few = JaccardSelector(POOL) | LabelNearest(fetch_k=3)
    assert [example.output for example in few.select("dim the lamp", 2)] == ["light", "light"]


def test_label_balanced_reaches_labels_that_are_far():
    pool = [*(Example(f"dim the lamp {n}", "light") for n in range(300)), Example("?", "rare")]
    assert [e.output for e in (JaccardSelector(pool) | LabelBalanced()).select("dim the lamp", 4)].count("rare") == 1
    assert {e.output for e in (JaccardSelector(pool) | LabelNearest()).select("dim the lamp", 4)} == {"light"}


def test_labels_can_stand_in_metadata():
    pool = [Example(example.input, "answer", metadata={"kind": example.output}) for example in POOL]
    chosen = (JaccardSelector(pool) | LabelNearest("kind")).select("dim the lamp", 3)
    assert [example.metadata["kind"] for example in chosen] == ["light", "music", "door"]
    with pytest.raises(InvalidInputError, match="label 'kinds' is not in an example's metadata"):
        (JaccardSelector(pool) | LabelNearest("kinds")).select("dim the lamp", 3)


def cosines(texts, query):
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"\w+").fit(texts)
    rows = vectorizer.transform([query, *texts]).toarray()
    return rows[0], rows[1:]


def test_mmr_behind_a_lexical_selector_compares_tfidf_vectors():
    texts = [example.input for example in POOL]
    query, vectors = cosines(texts, "dim the lamp in the hall")
    chosen, worth = [], 0.6 * (vectors @ query)
    for _ in range(4):
        penalty = 0.4 * np.max([vectors @ vectors[place] for place in chosen], axis=0) if chosen else 0
        values = np.where(np.isin(np.arange(len(texts)), chosen), -np.inf, worth - penalty)
        chosen.append(int(np.argmax(values >= values.max() - 1e-9)))
    # Every candidate is fetched, so the selector before it decides nothing but the scores that are shown.
    found = (TfidfSelector(POOL, grams=("word", 1, 1)) | Mmr(0.6)).select("dim the lamp in the hall", 4)
    order = ids(TfidfSelector(POOL, grams=("word", 1, 1)).select("dim the lamp in the hall", 7))
    expected = [POOL[place].id for place in chosen]
    assert ids(found) == expected != order[:4]
    assert found.hits[1].why["mmr_penalty"] > 0


def test_diverse_stages_do_not_repeat_themselves():
    pool = [Example("dim the lamp", "light")] * 5 + [Example("play the song", "music"), Example("dim", "light")]
    for source in (BM25Selector, lambda rows: EmbeddingSelector(rows, embedder="hash:64")):
        for stage in (Mmr(0.4), Dpp()):
            chosen = (source(pool) | stage).select("dim the lamp and play the song", 3)
            assert len({example.input for example in chosen}) == 3


def test_a_filter_reaches_the_stages():
    pool = [Example("bonjour la lampe", "x", metadata={"lang": "fr"}), *(
        Example(f"hello the lamp {n}", "x", metadata={"lang": "en"}) for n in range(9)
    )]  # fmt: skip
    for spec in ("bm25 | mmr", "embedding | mmr", "hybrid | dpp", "jaccard | coverage", "random | label-nearest"):
        chosen = load_selector(spec, pool, embedder="hash:64").select("hello the lamp", 1, where={"lang": "fr"})
        assert [example.metadata["lang"] for example in chosen] == ["fr"]
    with pytest.raises(InvalidInputError, match="Did you mean 'lang'"):
        load_selector("bm25", pool).select("hello", 1, where={"land": "fr"})


def test_coverage_covers_the_words_of_the_query():
    pool = [
        Example("dim the lamp", "x", id="lamp"),
        Example("dim the lamp now", "x", id="lamp too"),
        Example("zebra", "x", id="zebra"),
        Example("open doors", "x", id="doors"),
    ]
    chosen = (BM25Selector(pool) | Coverage()).select("dim the lamp zebra doors", 3)
    assert set(ids(chosen)) == {"lamp", "zebra", "doors"}
    assert "lamp too" in ids(BM25Selector(pool).select("dim the lamp zebra doors", 3))
    gains = [hit.why["coverage_gain"] for hit in chosen.hits]
    assert all(gain > 0 for gain in gains)
    by_tokens = Coverage(embedder="hash:512")
    for source in (BM25Selector(pool), EmbeddingSelector(pool, embedder="hash:64")):
        assert set(ids((source | by_tokens).select("dim the lamp zebra doors", 3))) == {"lamp", "zebra", "doors"}
    assert set(ids((EmbeddingSelector(pool, embedder="hash:64") | Coverage()).select("dim zebra doors", 3))) >= {
        "zebra"
    }


def test_coverage_does_not_need_what_another_thread_threw_away():
    class Emptying(HashingEmbedder):
        def embed_tokens(self, texts):
            stage._tokens.clear()
            return super().embed_tokens(texts)

    stage = Coverage(embedder=Emptying(64))
    selector = BM25Selector(POOL) | stage
    expected = (BM25Selector(POOL) | Coverage(embedder="hash:64")).select("dim the lamp", 3)
    assert selector.select("play the song", 3)
    assert selector.select("dim the lamp", 3).examples == expected.examples


def test_coverage_needs_tokens_of_an_embedder():
    class Whole:
        name, fingerprint, dim = "whole", "whole", 2

        def embed_documents(self, texts):
            return np.ones((len(texts), 2), dtype=np.float32)

        embed_queries = embed_documents

    with pytest.raises(UnsupportedError, match="'whole' has no `embed_tokens`"):
        (BM25Selector(POOL) | Coverage(Whole())).select("lamp", 2)


def test_order():
    best = ids(JaccardSelector(POOL).select("dim the lamp", 5))
    last = (JaccardSelector(POOL) | Order()).select("dim the lamp", 5)
    assert ids(last) == best[::-1]
    assert [hit.rank for hit in last.hits] == [5, 4, 3, 2, 1]
    assert last.ordered
    assert ids((JaccardSelector(POOL) | Order("similar_first")).select("dim the lamp", 5)) == best
    shuffled = JaccardSelector(POOL) | Order("shuffled", seed=1)
    once = ids(shuffled.select("dim the lamp", 5))
    assert once == ids(shuffled.select("dim the lamp", 5))
    assert sorted(once) == sorted(best)
    others = [
        ids((JaccardSelector(POOL) | Order("shuffled", seed=seed)).select("dim the lamp", 5)) for seed in range(9)
    ]
    assert len({tuple(each) for each in others}) > 3


def test_order_warns_of_examples_grouped_by_label():
    grouped = [Example(str(n), label) for label in "ab" for n in range(4)]
    with pytest.warns(GroupedLabelsWarning, match="the 8 examples stand grouped by their 2 labels"):
        (FixedSelector(grouped) | Order()).select("x", 8)
    mixed = [Example(str(n), label) for n in range(4) for label in "ab"]
    (FixedSelector(mixed) | Order()).select("x", 8)  # a warning would be an error here
    (FixedSelector(grouped) | Order()).select("x", 4)
    (FixedSelector([Example(str(n), str(n)) for n in range(8)]) | Order()).select("x", 8)


def test_pinned_examples_open_every_prompt():
    selector = JaccardSelector(POOL) | Pinned(["e", "b"]) | Order()
    for query in ("dim the lamp", "open the door", "play the song in the hall"):
        chosen = selector.select(query, 4)
        assert ids(chosen)[:2] == ["e", "b"]
        assert len(set(ids(chosen))) == 4
        free = [name for name in ids(JaccardSelector(POOL).select(query, 7)) if name not in {"e", "b"}]
        assert ids(chosen)[2:] == free[:2][::-1]
    unordered = JaccardSelector(POOL) | Pinned(["e", "b"])
    assert ids(unordered.select("dim the lamp", 4))[2:] == ["b", "e"]  # best first: the prompt turns it round
    prompts = [
        answer.prompt.prefix
        for answer in FewShot(ScriptedModel(["x"] * 2), unordered, k=4).batch(["dim the lamp", "open the door"])
    ]
    shared = Template().render_example(POOL[4]) + Template().render_example(POOL[1])
    assert all(prompt.startswith(shared) for prompt in prompts)
    assert ids(selector.select("dim the lamp", 1)) == ["e"]
    assert ids(selector.select("dim the lamp", 3, exclude=["e"])) == ["b", "c", "a"]
    with pytest.raises(InvalidInputError, match="'nobody' is not in the pool"):
        (JaccardSelector(POOL) | Pinned(["nobody"])).select("x", 2)
    for bad in ("ab", ["a", "a"]):
        with pytest.raises(InvalidInputError, match="`ids`"):
            Pinned(bad)


def test_few_shot_follows_the_order_of_a_stage():
    model = ScriptedModel(["x"] * 3)
    plain = FewShot(model, JaccardSelector(POOL), k=3).invoke("dim the lamp").prompt.text
    assert FewShot(model, JaccardSelector(POOL) | Order(), k=3).invoke("dim the lamp").prompt.text == plain
    first = FewShot(model, JaccardSelector(POOL) | Order("similar_first"), k=3).invoke("dim the lamp").prompt.text
    assert first.index("Dim the lamp!") < first.index("in the hall") < plain.index("Dim the lamp!") + len(plain)
    assert first != plain


def test_rerank_by_a_function_and_by_a_model(tiny):
    seen = []

    def score(prompts, answers):
        seen.extend(zip(prompts, answers, strict=True))
        return np.array([len(prompt) for prompt in prompts], dtype=np.float64)

    chosen = (JaccardSelector(POOL) | Rerank(score, fetch_k=3)).select("dim the lamp", 2)
    assert ids(chosen) == ["c", "b"]
    assert seen[0] == (Template().render_example(POOL[0]), "Input: dim the lamp\nOutput:")
    assert chosen.hits[0].why["model_score"] == len(seen[2][0])
    by_model = (JaccardSelector(POOL) | Rerank(tiny, fetch_k=7)).select("dim the lamp", 7)
    expected = [tiny.score([Template().render_example(each)], ["Input: dim the lamp\nOutput:"])[0, 0] for each in POOL]
    assert [hit.why["model_score"] for hit in by_model.hits] == pytest.approx(sorted(expected, reverse=True), abs=1e-3)
    with pytest.raises(InvalidInputError, match="must give 3 numbers"):
        (JaccardSelector(POOL) | Rerank(lambda prompts, answers: np.zeros(1), fetch_k=3)).select("x", 1)


def test_every_stage_stands_behind_every_selector():
    stages = (Guard(), LabelNearest(), LabelBalanced(), Mmr(), Dpp(), Coverage(), TokenLimit(200), MinScore(-1.0))
    for spec in ("random", "fixed", "jaccard", "containment", "tfidf", "ngram", "bm25", "embedding", "hybrid"):
        whole = load_selector(spec, POOL, embedder="hash:32")
        for stage in stages:
            whole |= stage
        chosen = (whole | Order("similar_first")).select("unrelated words", 3)
        assert len(set(ids(chosen))) == 3
        assert whole.select_many(["lamp", "door"], 3) == [whole.select("lamp", 3), whole.select("door", 3)]


@pytest.mark.parametrize(
    "stages", [(TokenLimit(100),), (LabelBalanced(),), (Guard(), TokenLimit(100)), (LabelBalanced(), TokenLimit(100))]
)
def test_the_pool_is_ranked_once(stages, monkeypatch):
    asked = []
    best = BM25Selector._best
    monkeypatch.setattr(BM25Selector, "_best", lambda self, *given: asked.append(given[1]) or best(self, *given))
    selector = BM25Selector([Example(f"the lamp number {n}", str(n % 9)) for n in range(90)])
    for stage in stages:
        selector |= stage
    assert [len(chosen) for chosen in selector.select_many(["lamp", "number 7"], 8)] == [8, 8]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinScore(), "`MinScore` needs a bound"),
        (lambda: load_selector("bm25 | token-limit:99.5", POOL), "`limit`"),
        (lambda: load_selector(7, POOL), "unknown selector '7'"),
        (lambda: Mmr(1.5), "`trade_off`"),
        (lambda: Mmr(fetch_k=0), "`fetch_k`"),
        (lambda: Dpp(0), "`scale`"),
        (lambda: Guard(0), "`near`"),
        (lambda: TokenLimit(-1), "`limit`"),
        (lambda: Order("backwards"), "`order`"),
        (lambda: Rerank(3), "`score`"),
        (lambda: Rerank(len, fetch_k=0), "`fetch_k`"),
        (lambda: JaccardSelector(POOL) | Order() | Guard(), "nothing may follow `Order`"),
        (lambda: JaccardSelector(POOL) | Pinned(["a"]) | Guard(), "only `Order` may follow `Pinned`"),
        (lambda: JaccardSelector(POOL) | 3, "can only be followed by stages, got int"),
        (lambda: load_selector("bm25 | mmr:high", POOL), "`trade_off`"),
        (lambda: load_selector("bm25 | token-limit:nan", POOL), "`limit`"),
        (lambda: load_selector("bm25 | token-limit:1e999", POOL), "`limit`"),
        (lambda: load_selector("bm25 | token-limit:1.5", POOL), "`limit`"),
        (lambda: MinScore(cosine=float("nan")), "`cosine` must be a finite number, got nan"),
    ],
)
def test_bad_stages(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_specs():
    made = load_selector(
        "bm25 | guard:0.8 | label-nearest | mmr:0.5 | min-score:0.1 | token-limit:99 | shuffled", POOL, seed=3
    )
    expected = (Guard(0.8), LabelNearest(), Mmr(0.5), MinScore(0.1), TokenLimit(99), Order("shuffled", 3))
    assert made.stages == expected
    with pytest.raises(UnknownSpecError, match="Did you mean 'label-nearest'"):
        load_selector("bm25 | label-nearst", POOL)


def test_many_queries_are_ranked_a_part_at_a_time(monkeypatch):
    selector = load_selector("bm25 | label-balanced", POOL)
    queries = [example.input for example in POOL]
    whole = [[hit.id for hit in chosen.hits] for chosen in selector.select_many(queries, 3)]
    ranked = []
    best = type(selector.source)._best
    monkeypatch.setattr(type(selector.source), "_best", lambda *given: ranked.append(len(given[1])) or best(*given))
    monkeypatch.setattr(base, "_MOST_RANKED", 2 * len(POOL))
    assert [[hit.id for hit in chosen.hits] for chosen in selector.select_many(queries, 3)] == whole
    assert max(ranked) == 2
    assert sum(ranked) == len(queries)
