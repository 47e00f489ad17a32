"""Reports, the automatic choice, and what is found in a pool."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit._text import folded, words
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.records import Example
from ragkit.tasks import Task
from ragkit_selectors import JaccardSelector, LabelNearest, Order, autoselect, check_pool

POOL = [
    Example("dim the lamp", "light on"),
    Example("dim the light", "light on"),
    Example("play a song", "music play"),
    Example("stop the song", "music stop"),
]


def test_report_by_hand():
    dev = [
        Example("dim the lamps", "light on"),
        Example("stop song", "music halt"),
        Example("Play a song!", "music play"),
    ]
    report = JaccardSelector(POOL).report(dev, k=2)
    assert (report.rows, report.k, report.leaked) == (3, 2, 1)
    assert (report.gold_at_1, report.gold_at_k) == (2 / 3, 2 / 3)
    assert report.overlap == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert report.label_spread == pytest.approx((1 + 2 + 2) / 3)
    assert report.milliseconds > 0
    pieces = sum(len(f"Input : {example.input} Output : {example.output}".split()) for example in POOL[:2])
    assert JaccardSelector(POOL).report(dev[:1], k=2).tokens == pieces
    ordered = (JaccardSelector(POOL) | Order()).report(dev, k=2)
    assert ordered.gold_at_1 == report.gold_at_1  # of the best, wherever it stands
    with pytest.raises(EmptyPoolError):
        JaccardSelector(POOL).report([])


def test_autoselect_takes_the_best(data):
    task = Task.from_jsonl(data / "classification" / "banking77.jsonl").without_leaks()
    pool, dev = task.draw(1540, seed=0), task.test[::20]
    specs = ["random", "jaccard", "bm25", "bm25 | label-nearest", "embedding"]
    chosen = autoselect(pool, dev, specs=specs, embedder="hash:256")
    reports = {report.spec: report for report in chosen.reports}
    assert set(reports) == set(specs)
    best = max(reports.values(), key=lambda each: (each.overlap, each.gold_at_1))
    assert chosen.reports[0] == best
    assert chosen.selector.report(dev).gold_at_k == best.gold_at_k
    assert reports["bm25 | label-nearest"].gold_at_k > reports["bm25"].gold_at_k > reports["random"].gold_at_k
    assert reports["bm25 | label-nearest"].label_spread == 8
    assert chosen.table().row_count == 5


def test_autoselect_offline_with_its_own_list():
    chosen = autoselect(POOL * 1, [Example("dim a lamp", "light on")], k=1, embedder="hash:64")
    assert chosen.reports[0].gold_at_1 == 1.0
    assert [example.output for example in chosen.selector.select("dim lamps", 1)] == ["light on"]


def test_autoselect_reads_iterators_once():
    dev = [Example("dim a lamp", "light on")]
    specs = ["bm25", "jaccard"]
    chosen = autoselect(iter(POOL), iter(dev), specs=specs, k=1)
    again = autoselect(POOL, dev, specs=specs, k=1)
    assert [(each.spec, each.gold_at_1) for each in chosen.reports] == [(e.spec, e.gold_at_1) for e in again.reports]


def test_autoselect_needs_a_list_of_specs():
    with pytest.raises(InvalidInputError, match="`specs` must name one selector at least"):
        autoselect(POOL, POOL, specs=[])
    with pytest.raises(InvalidInputError, match="`specs` must be a sequence"):
        autoselect(POOL, POOL, specs="bm25")


WORD = st.sampled_from(["a", "b", "c", "d", "A", "!", "e"])
TEXT = st.lists(WORD, max_size=8).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(
    pool=st.lists(TEXT, min_size=1, max_size=15),
    test=st.lists(TEXT, max_size=8),
    near=st.sampled_from([0.4, 0.75, 0.9, 1.0]),
)
def test_check_equals_all_pairs(pool, test, near):
    found = check_pool([Example(t, "x") for t in pool], [Example(t, "x") for t in test], near=near)

    def likeness(one, other):
        union = set(words(one)) | set(words(other))
        return len(set(words(one)) & set(words(other))) / len(union) if union else 0.0

    first = {}
    for row, text in enumerate(pool):
        first.setdefault(folded(text), row)
    assert [(p.first, p.second) for p in found.duplicates] == [
        (first[folded(text)], row) for row, text in enumerate(pool) if first[folded(text)] != row
    ]
    pairs = {
        (one, other): likeness(pool[one], pool[other])
        for other in range(len(pool))
        for one in range(other)
        if folded(pool[one]) != folded(pool[other])
    }
    expected = {pair: value for pair, value in pairs.items() if value >= near}
    assert {(p.first, p.second): p.similarity for p in found.near_duplicates} == pytest.approx(expected)
    assert {p.second for p in found.leaks} == {row for row, text in enumerate(test) if folded(text) in first}
    for row, text in enumerate(test):
        best = max((likeness(text, other) for other in pool), default=0)
        near_leak = [p for p in found.near_leaks if p.second == row]
        assert bool(near_leak) == (best >= near and folded(text) not in first)
        assert not near_leak or near_leak[0].similarity == pytest.approx(best)
        earliest = next((row for row, other in enumerate(pool) if likeness(text, other) == best), None)
        assert not near_leak or near_leak[0].first == earliest


def test_the_search_is_abandoned_above_the_mean_number_of_pairs():
    rows = [Example("stop", "x")] * 5  # 10 pairs, 2 for each row
    assert check_pool(rows, most_candidates=2).near_searched
    assert not check_pool(rows, most_candidates=1).near_searched


def test_check_finds_conflicts_and_counts_labels():
    rows = [*POOL, Example("Dim the lamp!", "dark"), Example("please dim the lamp now ok", "x")]
    found = check_pool(rows, [Example("STOP the song", "music stop")])
    assert [(p.first, p.second) for p in found.duplicates] == [(0, 4)]
    assert found.conflicts == found.duplicates
    assert [(p.first, p.second) for p in found.leaks] == [(3, 0)]
    assert found.labels[0] == ("light on", 2)
    assert not found.clean
    assert check_pool(POOL).clean
    with pytest.raises(EmptyPoolError):
        check_pool([])
    with pytest.raises(InvalidInputError, match="`near`"):
        check_pool(POOL, near=0)


@pytest.mark.parametrize(("name", "leaked"), [("banking77", 25), ("clinc150", 19)])
def test_leaks_of_real_data(name, leaked, data):
    task = Task.from_jsonl(data / "classification" / f"{name}.jsonl")
    assert len(check_pool(task.examples, task.test).leaks) == leaked


def test_label_nearest_on_banking77(data):
    # One per label behind BM25: .977 of every third test row, leaks kept, against .954 of BM25 alone.
    task = Task.from_jsonl(data / "classification" / "banking77.jsonl")
    from ragkit_selectors import BM25Selector

    test = task.test[::3]
    chosen = (BM25Selector(task.examples) | LabelNearest()).select_many([row.input for row in test], 8)
    shown = sum(row.output in {e.output for e in s} for row, s in zip(test, chosen, strict=True))
    assert 0.970 <= shown / len(test) < 0.985
