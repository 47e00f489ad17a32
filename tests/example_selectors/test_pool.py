"""What every selector does with its pool, its arguments and its ids."""

import asyncio
import copy
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

import ragkit_selectors
from ragkit.errors import EmptyPoolError, InvalidInputError, SmallPoolWarning, UnknownSpecError
from ragkit.protocols import Selector
from ragkit.records import Example, Selection
from ragkit_selectors import JaccardSelector, RandomSelector, load_selector

NAMES = ("random", "jaccard", "bm25", "embedding")
POOL = [
    {"input": "dim the lamp", "output": "light", "split": "train"},
    {"input": "{0} {name} {{}} %s", "output": "braces"},
    {"input": "🙂 👍🏽", "output": "emoji"},
    {"input": "", "output": "empty"},
    Example("play the song", "music", id="song", metadata={"year": 2020}),
    {"input": "dim the lamp", "output": "light"},
]


def build(name: str, examples: list[object] = POOL, key: str = "input"):
    return load_selector(name, examples, key=key, embedder="hash:32")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest):
    return request.param


def test_satisfies_the_protocol(name: str):
    selector = build(name)
    assert isinstance(selector, Selector)
    assert len(selector) == 6


@pytest.mark.parametrize("query", ["lamp", "{0} {name}", "🙂", "", "\ud800", "%s\n{{", "song " * 500])
def test_any_text_is_only_text(name: str, query: str):
    selection = build(name).select(query, 6)
    assert sorted(hit.id for hit in selection.hits) == ["0", "1", "2", "3", "5", "song"]
    assert [hit.rank for hit in selection.hits] == [1, 2, 3, 4, 5, 6]
    scores = [hit.score for hit in selection.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(type(score) is float for score in scores)


def test_one_query_and_many_agree(name: str):
    selector, queries = build(name), ["lamp", "song", "", "dim the {name}"]
    many = selector.select_many(queries, 3)
    assert many == [selector.select(query, 3) for query in queries]
    assert many == [asyncio.run(selector.aselect(query, 3)) for query in queries]
    assert selector.select_many([], 3) == []


def test_exclude(name: str):
    selector = build(name)
    whole = [hit.id for hit in selector.select("dim the song", 6).hits]
    for left_out in ([whole[0]], [whole[0], whole[2], "elsewhere"], whole[1:]):
        kept = [item for item in whole if item not in left_out]
        chosen = selector.select("dim the song", len(kept), exclude=left_out)
        assert [hit.id for hit in chosen.hits] == kept
        assert set(chosen.dropped) == {(item, "excluded") for item in left_out if item != "elsewhere"}


def test_all_excluded(name: str):
    with pytest.warns(SmallPoolWarning, match="6 of them excluded; 0 are returned"):
        chosen = build(name).select("lamp", 1, exclude=["0", "1", "2", "3", "song", "5"])
    assert (len(chosen), len(chosen.dropped)) == (0, 6)


def test_k_beyond_the_pool_warns_where_it_was_asked(name: str):
    with pytest.warns(SmallPoolWarning, match="10 examples .* the pool has 6; 6 are returned") as caught:
        assert len(build(name).select("lamp", 10)) == 6
    assert caught[0].filename == __file__


def test_k_of_nothing(name: str):
    assert build(name).select("lamp", 0) == Selection()


@pytest.mark.parametrize("k", [-1, 2.0, "2", None, True])
def test_bad_k(name: str, k: object):
    with pytest.raises(InvalidInputError, match="`k` must be a whole number"):
        build(name).select("lamp", k)


def test_bad_arguments(name: str):
    selector = build(name)
    with pytest.raises(InvalidInputError, match="`exclude`"):
        selector.select("lamp", 1, exclude="song")
    with pytest.raises(InvalidInputError, match="`exclude`"):
        selector.select("lamp", 1, exclude=[4])
    with pytest.raises(InvalidInputError, match="`queries`"):
        selector.select_many("lamp", 1)
    with pytest.raises(InvalidInputError, match="got int"):
        selector.select(7, 1)


def test_queries_and_ids_may_come_from_iterators(name: str):
    selector = build(name)
    assert selector.select_many(iter(["dim the lamp", "song"]), 1) == selector.select_many(["dim the lamp", "song"], 1)
    best = selector.select("dim the lamp", 1).hits[0].id
    assert best not in [hit.id for hit in selector.select("dim the lamp", 1, exclude=iter([best])).hits]
    size = len(selector)
    assert selector.remove(iter([best])) == 1
    assert len(selector) == size - 1


def test_threads_may_ask_at_the_same_time(name: str):
    pool = [{"input": f"dim the lamp {n % 7}", "output": "x", "n": n} for n in range(40)]
    asked = [(f"lamp {n % 9}", {"n": {"$gte": n % 37}}) for n in range(300)]

    def best(given: tuple[str, dict[str, object]]):
        return [hit.id for hit in selector.select(given[0], 3, where=given[1]).hits]

    selector = build(name, pool)
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(best, asked))
    selector = build(name, pool)
    assert together == [best(given) for given in asked]


def test_a_copy_of_a_selection_does_without_the_selector(name: str):
    chosen = build(name).select("dim the lamp", 2)
    copied = copy.deepcopy(chosen)
    assert copied == chosen
    assert type(copied.hits) is tuple
    assert asdict(chosen)["hits"] == tuple(chosen.hits)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (None, "`examples` must be a sequence of examples, got NoneType"),
        ("text", "`examples` must be a sequence of examples, got str"),
        (["text"], r"examples\[0\] must be an Example or a mapping .* got str"),
        ([{"output": "a"}], r"examples\[0\] has no 'input'"),
        ([{"input": "a"}], r"examples\[0\] has no 'output'"),
        ([{"input": 3, "output": "a"}], r"examples\[0\]: an input must be a string or a mapping"),
        ([{"input": {"q": 3}, "output": "a"}], r"examples\[0\]: .*must be text, got int"),
        ([{"input": "a", "output": 3}], r"examples\[0\]: `output` must be text, got int"),
        ([{"input": "a", "output": "b", "id": 0}], r"examples\[0\]: `id` must be text, got int"),
        ([{"input": "a", "output": "b", "metadata": 1}], r"examples\[0\]: `metadata` must be a mapping, got int"),
        ([Example("a", "b", id="x"), Example("c", "d", id="x")], r"examples\[0\] and examples\[1\] both have id 'x'"),
        ([Example("a", "b"), Example("c", "d", id="0")], "both have id '0'"),
    ],
)
def test_bad_pool(name: str, examples: list[object], message: str):
    with pytest.raises(InvalidInputError, match=message):
        build(name, examples)


def test_empty_pool(name: str):
    with pytest.raises(EmptyPoolError, match="Selector got an empty pool"):
        build(name, [])


def test_what_a_hit_carries():
    selection = JaccardSelector(POOL).select("play song", 2)
    assert selection.examples[0] is POOL[4]
    assert (selection.hits[0].id, selection.hits[0].text, selection.hits[0].metadata) == (
        "song",
        "play the song",
        {"year": 2020},
    )
    assert JaccardSelector(POOL).select("lamp", 1).hits[0].metadata == {"split": "train"}


def test_one_field_is_searched():
    pool = [
        {"input": {"question": "lamp", "context": "song song"}, "output": "a"},
        {"input": {"question": "song", "context": "lamp"}, "output": "b"},
    ]
    for name in ("jaccard", "bm25", "embedding"):
        selector = build(name, pool, key="question")
        assert selector.select({"question": "song", "context": "lamp"}, 1)[0].output == "b"
        assert selector.select("song", 1)[0].output == "b"
        with pytest.raises(InvalidInputError, match="question"):
            selector.select({"context": "song"}, 1)
        with pytest.raises(InvalidInputError, match="question"):
            build(name, POOL, key="question")
    assert build("jaccard", pool).select({"a": "lamp", "b": "song"}, 1).hits[0].why["jaccard"] == 1.0


RANDOM = """
from ragkit_selectors import RandomSelector
selector = RandomSelector([{"input": str(n), "output": "a"} for n in range(50)], seed=3)
print([hit.id for query in ("lamp", "🙂") for hit in selector.select(query, 5).hits])
"""


def test_random_is_the_same_in_every_process():
    def run(hash_seed: str):
        env = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONHASHSEED": hash_seed, "PYTHONUTF8": "1"}
        return subprocess.run(
            [sys.executable, "-c", RANDOM], env=env, capture_output=True, text=True, check=True
        ).stdout

    pool = [Example(str(n), "a") for n in range(50)]
    here = RandomSelector(pool, seed=3)
    here.select("something before", 50)
    emoji, lamp = here.select("🙂", 5), here.select("lamp", 5)
    assert run("1") == run("2") == f"{[hit.id for hit in (*lamp.hits, *emoji.hits)]}\n"
    assert RandomSelector(pool, seed=4).select("lamp", 5) != lamp


def test_random_is_uniform():
    selector = RandomSelector([Example(str(n), "a") for n in range(10)])
    counts = Counter(hit.id for query in range(3000) for hit in selector.select(str(query), 2).hits)
    chi_square = sum((counts[str(n)] - 600) ** 2 / 600 for n in range(10))
    assert chi_square < 27.9  # p = 0.001 at 9 degrees of freedom


def test_unknown_name():
    with pytest.raises(UnknownSpecError, match="Did you mean 'bm25'"):
        load_selector("bm52", POOL)
    with pytest.raises(InvalidInputError, match="`mode`"):
        JaccardSelector(POOL, mode="words")


@pytest.mark.parametrize("argument", [{"k1": -1}, {"k1": float("nan")}, {"k1": float("inf")}, {"b": 1.5}, {"b": -0.1}])
def test_bad_bm25_arguments(argument: dict[str, float]):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(argument))}` must be"):
        ragkit_selectors.BM25Selector(POOL, **argument)


def test_public_names_resolve_and_import_is_light():
    assert all(hasattr(ragkit_selectors, public) for public in ragkit_selectors.__all__)
    assert set(ragkit_selectors.__all__) <= set(dir(ragkit_selectors))
    with pytest.raises(AttributeError, match="Nothing"):
        _ = ragkit_selectors.Nothing
    code = "import sys, ragkit_selectors; print({'numpy', 'faiss', 'bm25s'} & set(sys.modules))"
    env = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert found == "set()\n"


def test_a_pool_may_be_anything_that_gives_examples_by_place():
    class Rows:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> Example:
            return [Example("dim the lamp", "a"), Example("open the door", "b")][place]

    assert [example.output for example in build("jaccard", Rows()).select("the door", 2)] == ["b", "a"]
