"""Every path that a GPU takes, on cards that enforce the rules of real ones."""

import asyncio
import threading

import numpy as np
import pytest
from exact_scores import as_near, clear_order
from fake_card import FakeCard
from waiting import wait_for

from ragkit import Document, Index
from ragkit.errors import InvalidInputError, RagkitWarning, RecallWarning
from ragkit.index import _gpu as gpu
from ragkit.index import _gpu_cards as gpu_cards
from ragkit.index import _store as store
from ragkit.index._gpu import Gpus, Plan, plan
from ragkit.index._gpu_cards import Worker, card_numbers

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(3000, 16)).astype(np.float32)
GIB = 2**30


@pytest.fixture
def cards(monkeypatch):
    """Two cards, made when an index asks for them."""
    made = {}

    def make(number):
        made[number] = FakeCard(number, memory=made.get("memory", 8 * GIB))
        return made[number]

    monkeypatch.setattr(gpu_cards, "gpu_count", lambda: 2)
    monkeypatch.setattr(store, "Gpus", lambda numbers: Gpus(numbers, make))
    return made


def filled(device, rows=3000, **arguments):
    index = Index.create(None, embedder=None, dim=16, device=device, **arguments)
    documents = [Document(str(n), id=str(n), metadata={"part": n % 3, "rare": n % 100}) for n in range(rows)]
    index.add(documents, vectors=VECTORS[:rows])
    return index


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1", ["cuda:0", "cuda:1"]])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_same_as_on_the_cpu(cards, device, metric):
    one, other = filled(device, metric=metric), filled("cpu", metric=metric)
    assert "GPU" in one.stats().factory
    queries = RNG.normal(size=(37, 16)).astype(np.float32)
    for change in (None, "delete", "add", "compact"):
        for index in (one, other):
            if change == "delete":
                index.delete([str(n) for n in range(0, 3000, 2)])
            elif change == "add":
                index.add([Document("new", id="new"), Document("again", id="7")], vectors=VECTORS[:2])
            elif change == "compact":
                index.compact()
        for k in (1, 10, 500):
            for where in (None, {"part": 1}, {"part": {"$ne": 1}}, {"rare": 3}, {"part": 7}):
                scores, keys = one.search_vectors(queries, k, where=where)
                expected, right = other.search_vectors(queries, k, where=where)
                assert np.allclose(scores, expected, atol=1e-5)
                assert np.mean(keys == right) > 0.99  # all but those that are as near as others at float32
    numbers = [number for number in cards if number != "memory"]
    assert numbers == {"auto": [0], "cuda": [0], "cuda:1": [1]}.get(str(device), [0, 1])
    one.close()


def test_more_than_a_card_gives_comes_from_the_cpu(cards):
    one, other = filled("cuda"), filled("cpu")
    found, expected = (index.search_vectors(VECTORS[:3], 2048)[1] for index in (one, other))  # the most of a card
    assert as_near(found, expected, VECTORS, VECTORS[:3])
    for k in (2049, 2999, 5000):
        assert np.array_equal(one.search_vectors(VECTORS[:3], k)[1], other.search_vectors(VECTORS[:3], k)[1])
    for index in (one, other):
        index.delete([str(n) for n in range(2900)])  # most of what the card finds is gone
    assert np.array_equal(one.search_vectors(VECTORS[:3], 90)[1], other.search_vectors(VECTORS[:3], 90)[1])
    one.close()


def test_tenants_never_see_each_other(cards):
    index = filled("cuda")
    for part in range(3):
        _, keys = index.search_vectors(VECTORS[:200], 50, where={"part": {"$in": [part, 9]}})
        assert {document.metadata["part"] for document in index.get_by_keys(keys)} == {part}
    index.close()


def test_queries_of_many_threads_are_put_together(cards):
    index = filled("cuda")
    expected = filled("cpu").search_vectors(VECTORS[:640], 5)[1]
    card = cards[0]
    slow, search = threading.Event(), card.search

    def first_waits(*arguments):
        slow.wait(60)  # until all have asked
        return search(*arguments)

    card.search = first_waits
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: index.search_vectors(VECTORS[n : n + 10], 5)[1]}))
        for n in range(0, 640, 10)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: index._store.gpus._workers[0]._jobs.qsize() >= 60)
    slow.set()
    for thread in threads:
        thread.join()
    assert as_near(np.concatenate([found[n] for n in sorted(found)]), expected, VECTORS, VECTORS[:640])
    assert len(card.searches) < 10
    assert sum(card.searches) == 640

    async def many():
        return await asyncio.gather(
            *(asyncio.to_thread(index.search_vectors, VECTORS[n : n + 1], 5) for n in range(64))
        )

    assert as_near(np.concatenate([keys for _, keys in asyncio.run(many())]), expected[:64], VECTORS, VECTORS[:64])
    index.close()


def test_new_rows_wait_on_the_cpu_and_then_move(cards, monkeypatch):
    monkeypatch.setattr(store, "_TAIL", 100)
    index = filled("cuda", rows=400)
    assert index.stats().built == 400
    index.add([f"more {n}" for n in range(90)], vectors=VECTORS[400:490])
    assert index.stats().built == 400
    assert index.search_vectors(VECTORS[480:490], 1)[1][:, 0].tolist() == list(range(480, 490))
    index.add([f"most {n}" for n in range(110)], vectors=VECTORS[490:600])
    assert index.stats().built == 600
    assert np.array_equal(index.search_vectors(VECTORS[:600], 5)[1], clear_order(VECTORS[:600], VECTORS[:600], 5))
    index.close()


def test_half_precision_and_shards_where_memory_is_short(cards):
    single = 3000 * (16 * 4 + 4)
    cards["memory"] = int((single - 1 + gpu._SCRATCH) / 0.9)
    index = filled("cuda")
    assert index.stats().factory == "half on 1 GPU"
    recall = np.mean(
        [
            len(set(a) & set(b)) / 10
            for a, b in zip(
                index.search_vectors(VECTORS[:100], 10)[1],
                filled("cpu").search_vectors(VECTORS[:100], 10)[1],
                strict=True,
            )
        ]
    )
    assert recall > 0.97
    assert "as single takes" in index._store.gpus.reasons[0]
    index.close()
    both = filled(["cuda:0", "cuda:1"])
    assert both.stats().factory == "single on 2 GPUs"
    assert not both._store.state.segment.plan.replicated
    assert np.array_equal(both.search_vectors(VECTORS[:100], 10)[1], clear_order(VECTORS, VECTORS[:100], 10))
    both.delete([str(n) for n in range(1500)])
    assert both.search_vectors(VECTORS[:50], 10)[1].min() >= 1500
    both.close()
    cards["memory"] = GIB
    with pytest.warns(RagkitWarning, match="search stays on the CPU: 3000 x 16 as single takes"):
        poor = filled("cuda")
    assert poor.stats().factory == "flat"
    assert poor.search_vectors(VECTORS[:1], 1)[1].tolist() == [[0]]
    poor.close()


def test_eight_bits_where_half_precision_is_too_much(cards):
    half = 3000 * (16 * 2 + 4)
    cards["memory"] = int((half - 1 + gpu._SCRATCH) / 0.9)
    for metric in ("cosine", "l2"):
        index, cpu = filled("cuda", metric=metric), filled("cpu", metric=metric)
        assert index.stats().factory == "ivf-sq8 on 1 GPU"
        for where in (None, {"part": 1}, {"part": {"$ne": 1}}):
            scores, keys = index.search_vectors(VECTORS[:100], 10, where=where)
            expected, right = cpu.search_vectors(VECTORS[:100], 10, where=where)
            same = keys == right
            assert same[:, 0].mean() > 0.6  # of random vectors, which no list holds together
            assert np.allclose(scores[same], expected[same], atol=1e-5)  # scored again from the true vectors
        assert index.search_vectors(VECTORS[:5], 3000)[1].shape == (5, 3000)
        index.close()


def test_a_graph_where_the_build_has_it(cards, monkeypatch):
    plain = filled("cuda", factory="cagra")
    assert plain.stats().factory == "single on 1 GPU"  # no cuVS: exact
    plain.close()
    monkeypatch.setattr(store, "Gpus", lambda numbers: Gpus(numbers, lambda number: FakeCard(number, graphs=True)))
    index, cpu = filled("cuda", factory="cagra"), filled("cpu", factory="cagra")
    assert (index.stats().factory, cpu.stats().factory) == ("cagra on 1 GPU", "flat")
    scores, keys = index.search_vectors(VECTORS[:200], 10)
    expected, right = cpu.search_vectors(VECTORS[:200], 10)
    assert np.mean(keys == right) > 0.9
    assert np.allclose(scores[:, 0], expected[:, 0], atol=1e-5)
    index.delete([str(n) for n in range(0, 3000, 2)])
    assert (index.search_vectors(VECTORS[:50], 10)[1] % 2 == 1).all()
    index.close()
    cpu.compact()
    assert cpu.stats().factory == "flat"


def test_plans():
    assert plan(10**6, 384, [139 * GIB]) == Plan("single", ((0, 10**6),), True, ())
    for rows, kind in ((80_000_000, "single"), (160_000_000, "half"), (300_000_000, "ivf-sq8")):
        made = plan(rows, 384, [139 * GIB])
        assert (made.kind, made.shards) == (kind, ((0, rows),))
    both = plan(150_000_000, 384, [139 * GIB, 139 * GIB])
    assert (both.kind, both.replicated, both.shards) == ("single", False, ((0, 75_000_000), (75_000_000, 150_000_000)))
    uneven = plan(100_000_000, 384, [139 * GIB, 60 * GIB])
    assert not uneven.replicated
    assert uneven.shards[0][1] == uneven.shards[1][0] > 60_000_000
    assert uneven.shards[1][1] == 100_000_000
    assert "as ivf-sq8 takes" in plan(10**9, 384, [139 * GIB])


def test_devices(monkeypatch):
    assert card_numbers("cpu") == card_numbers("auto") == []
    with pytest.raises(InvalidInputError, match="asks for cuda:0, but FAISS sees 0 GPUs"):
        card_numbers("cuda")
    monkeypatch.setattr(gpu_cards, "gpu_count", lambda: 2)
    assert card_numbers("auto") == card_numbers("cuda") == [0]
    assert card_numbers(["cuda:1", "cuda:0"]) == [1, 0]
    for wrong in ("gpu", "cuda:x", ["cuda:0", "cpu"], ""):
        with pytest.raises(InvalidInputError, match="`device` must be"):
            card_numbers(wrong)
    with pytest.raises(InvalidInputError, match="asks for cuda:2, but FAISS sees 2"):
        card_numbers("cuda:2")


def test_errors_of_a_card_reach_who_asked():
    def broken(number=0):
        raise RuntimeError("no driver")

    with pytest.raises(RuntimeError, match="no driver"):
        Worker(broken)
    worker = Worker(lambda: FakeCard(0))
    with pytest.raises(RuntimeError, match="out of memory"):
        worker.load(np.broadcast_to(np.float32(0), (10**8, 64)), euclidean=False, kind="single")
    worker.load(VECTORS, euclidean=False, kind="single")
    with pytest.raises(RuntimeError, match="k = 3000 is larger"):
        worker.search(VECTORS[:1], 3000).result()
    assert worker.search(VECTORS[:1], 3).result()[1].shape == (1, 3)
    worker.close()


# The fake card fails whoever breaks a rule of real ones:


def test_the_fake_card_refuses_a_second_thread():
    card = FakeCard(0)
    index = card.put(VECTORS, euclidean=False, kind="single")
    failed = []

    def use():
        try:
            card.search(index, VECTORS[:1], 1)
        except RuntimeError as error:
            failed.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert failed == ["StackDeviceMemory: used by two threads"]


def test_the_fake_card_refuses_large_k_filters_removal_and_too_much_memory():
    card = FakeCard(0, memory=10**6)
    index = card.put(VECTORS, euclidean=False, kind="half")
    with pytest.raises(RuntimeError, match="k = 2049"):
        card.search(index, VECTORS[:1], 2049)
    with pytest.raises(RuntimeError, match="out of memory"):
        card.put(np.zeros((10**4, 64), dtype=np.float32), euclidean=False, kind="single")
    with pytest.raises(TypeError):
        card.search(index, VECTORS[:1], 1, params=None)
    assert not hasattr(card, "remove")
    card._busy.acquire()
    with pytest.raises(RuntimeError, match="used twice at once"):
        card.search(index, VECTORS[:1], 1)


def test_tuning_measures_what_a_card_finds(cards):
    half = 3000 * (16 * 2 + 4)
    cards["memory"] = int((half - 1 + gpu._SCRATCH) / 0.9)
    index, cpu = filled("cuda", metric="l2"), filled("cpu", metric="l2")
    assert index.stats().factory == "ivf-sq8 on 1 GPU"
    with pytest.warns(RecallWarning, match="below the 1.0 that was asked for"):
        found = index.tune(target_recall=1.0, queries=VECTORS[:200])
    keys, right = (each.search_vectors(VECTORS[:200], 10)[1] for each in (index, cpu))
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(keys, right, strict=True)])
    assert found["recall"] == pytest.approx(recall, abs=1e-3)
    assert index.stats().tuned is None  # of this card, and no part of the index
    index.close()
