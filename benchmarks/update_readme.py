"""Make the README's tables from the committed results, between their markers. ``--check`` only says if they are."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit_pipelines.compare.results import Results

HERE = Path(__file__).parent
ROOT = HERE.parent
CASES = ("clinc150", "trec6", "geoquery", "scan", "scan-jump", "instructions", "natural-instructions")


def results_table(facts: dict[str, Any]) -> str:
    results = Results.model_validate(facts)
    n = max(row.n for row in results.rows)
    tests = f"{n} test rows; {results.leaked_test_rows} more stood in the pool and were removed"
    advice = results.recommendation
    return f"{results.markdown()}\n\n{tests}. Recommendation: {advice.strategy or 'none'}. {advice.evidence}."


def cases_table(facts: dict[str, dict[str, Any]]) -> str:
    """One line for each case that has results: its best way with the fewest and with the most examples."""
    lines = [
        "| case | judged by | test rows | one answer to all | best of the smallest pool | best of the largest pool | "
        "shown to beat the others |",
        "|-" * 7 + "|",
    ]
    for name in CASES:
        if name not in facts:
            continue
        results = Results.model_validate(facts[name])
        sizes = sorted({row.size for row in results.rows})
        smallest, largest = (_best(results, size) for size in (sizes[0], sizes[-1]))
        beats = "yes" if results.recommendation.strategy else "no"
        lines.append(
            f"| {name} | {results.provenance['judged']} | {results.rows[0].n} | {results.floor:.3f} | "
            f"{'' if len(sizes) == 1 else smallest} | {largest} | {beats} |"
        )
    lines += [
        "\nMeans of three seeds that draw the pool; no language model is asked. `copy:` gives the output of the most",
        "similar example: it shows what a selector finds, and says nothing about a large model that is shown it.",
    ]
    return "\n".join(lines)


def _best(results: Results, size: int) -> str:
    scores: dict[str, list[float]] = {}
    for row in results.rows:
        if row.size == size and row.error is None:
            scores.setdefault(row.strategy, []).append(row.score)
    name, own = max(scores.items(), key=lambda each: sum(each[1]) / len(each[1]))
    return f"{name} {sum(own) / len(own):.3f} of {size:,}"


def harness_table(facts: dict[str, Any]) -> str:
    """A line for each thing that was measured."""
    lines = ["| | measured | goal | load of the machine |", "|-|-|-|-|"]
    for part in ("local", "http"):
        for row in facts.get(part, {}).get("measured", ()):
            what, unit = "calls of `tiny`", "CPU s"
            if part == "http":
                what = f"calls over HTTP of {facts[part]['latency_s']} s each, {facts[part]['at_once']} at once"
                unit = "s"
            lines.append(
                f"| more than the bare model, {row['calls']:,} {what}, {row['strategy']} | {row['overhead']:+.1%} "
                f"({row['more_s']:+.2f} of {row['bare_s']:.1f} {unit}) | 3 % | {facts[part]['load']:.0f} |"
            )
    for part, what, wall, cpu, goal in (
        ("sweep", "20 strategies again from what was kept, in a fresh process", "again_s", "again_cpu_s", 10),
        ("bootstrap", "10,000 draws over 20 strategies, 5 seeds, 3,000 items, all differences", "wall_s", "cpu_s", 2),
        ("demo", "`ragkit demo`", "wall_s", "cpu_s", 180),
    ):
        if part in facts:
            seconds = f"{facts[part][wall]:.1f} s ({facts[part][cpu]:.1f} CPU s)"
            lines.append(f"| {what} | {seconds} | {goal} s | {facts[part]['load']:.0f} |")
    kills = facts["kills"]
    lines += [
        f"| finished calls repeated after {kills['kills']} kills at random calls of {kills['calls']} | "
        f"{kills['finished_calls_repeated']} | 0 | {kills['load']:.0f} |",
        f"| of these runs, the same result as without a kill | {kills['same_result']} | {kills['kills']} | |",
        "\nChoosing examples and imports are not counted as overhead. A call is finished once its answer is kept; of",
        f"those under way when a run was killed, {kills['most_under_way_asked_again']} at the most were asked again.",
        "The machine has two cores: with a load above 2 it was shared with other work, and only CPU seconds and counts",
        "say something.",
    ]
    return "\n".join(lines)


def statistics_table(facts: dict[str, Any]) -> str:
    covered, winners, claim = facts["coverage"], facts["false_winners"], facts["claim"]
    settings = len(covered) // len({row["seeds"] for row in covered})
    lines = [
        f"| seeds | coverage of our 95 % intervals, lowest to highest of {settings} settings | mean width | coverage, "
        "seeds and items drawn | false winners, most |",
        "|-|-|-|-|-|",
    ]
    for seeds in sorted({row["seeds"] for row in covered}):
        own = [row for row in covered if row["seeds"] == seeds]
        ours, plain = ([row["coverage"][name] for row in own] for name in ("ours", "seeds and items drawn"))
        width = sum(row["width"]["ours"] for row in own) / len(own)
        named = [row["false_winners"] for row in winners if row["seeds"] == seeds]
        lines.append(
            f"| {seeds} | {min(ours):.3f} to {max(ours):.3f} | {width:.2f} | {min(plain):.3f} to {max(plain):.3f} | "
            f"{f'{max(named):.3f}' if named else 'not simulated'} |"
        )
    sets, most = covered[0]["sets"], max(winners, key=lambda row: float(row["false_winners"]))
    tried = sorted({row["sets"] for row in winners})
    found, fair = most["false_winners"] * most["sets"], 0.05 * most["sets"]
    lines += [
        f"\n{sets:,} simulated comparisons for each setting: 30 or 200 items, four seed variances, equal and unequal",
        "strategies. False winners were counted in "
        f"{tried[0]:,} comparisons of five equal strategies and {tried[-1]:,} of two.",
        f"The largest share, {most['false_winners']:.4f}, is {found:.0f} of {most['sets']:,}; "
        f"5 % would be {fair:.0f}, give or take {(0.95 * fair) ** 0.5:.0f}.",
        "With one seed the truth is that of the seed. It must not be read as more: where training varies",
        f"much, a winner was named in up to {claim['most_winners_of_one_seed_that_are_none_over_seeds']:.0%} of",
        "one-seed comparisons of strategies that are equally good over all seeds.",
        "Few seeds are covered too often rather than too seldom, and pay for it with width: use five or more.",
        f"10,000 draws over 20 strategies, 5 seeds and 3,000 items take {facts['speed']['wall_s']:.2f} s on one core.",
    ]
    return "\n".join(lines)


def tiny_table(facts: dict[str, Any]) -> str:
    lines = ["| asked with | exact match | 95 % interval | ceiling | queries |", "|-|-|-|-|-|"]
    for row in facts["rows"]:
        low, high = row["interval"]
        ceiling = "" if row["ceiling"] is None else f"{row['ceiling']:.3f}"
        lines.append(f"| {row['arm']} | {row['score']:.3f} | {low:.3f} to {high:.3f} | {ceiling} | {row['n']} |")
    return "\n".join(lines)


def speed_table(facts: dict[str, Any]) -> str:
    jaccard, bm25, ngram, mmr, dense = (facts[name] for name in ("jaccard", "bm25", "ngram", "mmr", "embedding"))
    lines = ["| 8 examples for one query | ours | beside | ratio |", "|-|-|-|-|"]
    rows = [
        ("Jaccard, 50,000 rows", jaccard["ours_ms"], "split, set, loop, sort", jaccard["naive_ms"]),
        ("", jaccard["ours_ms"], "the same, sets kept", jaccard["cached_sets_ms"]),
        ("BM25, 50,000 rows", bm25["ours_ms"], "bm25s with numba", bm25["bm25s_numba_ms"]),
        ("n-grams, 10,000 rows", ngram["ours_ms"], "LangChain's n-gram selector", ngram["langchain_ms"]),
        ("MMR, 100 candidates", mmr["ours_ms"], "LangChain's MMR", mmr["langchain_ms"]),
        ("embeddings, 50,000 rows", dense["ours_ms"], "raw FAISS search", dense["faiss_ms"]),
    ]
    for what, ours, peer, theirs in rows:
        ratio = f"{theirs / ours:,.0f} x faster" if theirs > 2 * ours else f"{ours / theirs:.2f} x the time"
        lines.append(f"| {what} | {ours:.3f} ms | {peer}: {theirs:,.3f} ms | {ratio} |")
    batches, growth = facts["batches"], facts.get("growth", [])
    many = f"`select_many` of {batches['queries']:,} queries on {batches['cores']} cores takes"
    lines.append(
        f"\n{many} {batches['jaccard_share_of_a_loop']:.2f} of the time of a loop (Jaccard), "
        f"{batches['bm25_share_of_a_loop']:.2f} (BM25). {jaccard['bytes_a_row']:.0f} bytes a row of "
        f"{jaccard['tokens_a_row']:.0f} different words. "
        + " ".join(f"{p['rows']:,} rows: {p['jaccard_ms']:.2f} ms Jaccard, {p['bm25_ms']:.2f} ms BM25." for p in growth)
    )
    return "\n".join(lines)


def index_table(facts: dict[str, Any]) -> str:
    search, single, build = facts["search"], facts["single"], facts["build"]
    lines = [
        f"{search['rows']:,} vectors of 384 numbers, 10 hits, one thread, milliseconds a query:\n",
        "| queries at once | ours | raw FAISS | raw FAISS, its switch for small batches turned |",
        "|-|-|-|-|",
    ]
    for name, row in search.items():
        if name.startswith("batch_"):
            count = name.removeprefix("batch_")
            lines.append(f"| {count} | {row['ours_ms']:.2f} | {row['raw_ms']:.2f} | {row['raw_tuned_ms']:.2f} |")
    peers = ", ".join(f"{name} {value:.2f} ms" for name, value in search["peers"].items())
    filtered = search["filter"]
    more, made = search["texts_ms_more"], build
    lines += [
        f"\nBeside it: {peers}.",
        f"One query over {single['rows']:,} vectors takes {single['more_us']:.0f} µs more than raw FAISS",
        f"({single['ours_us']:.0f}); texts and metadata of the hits {more:.2f} ms more a query.",
        f"A filter that 1 % match takes {filtered['ratio']:.3f} of an unfiltered batch of 1,000; compiling it takes",
        f"{filtered['first_use_ms']:.0f} ms, with an index on its field {filtered['first_use_indexed_ms']:.0f} ms.",
        f"Building with {made['rows']:,} documents takes {made['ours_s']:.2f} s; raw FAISS that also writes, syncs and",
        f"checksums the same vectors {made['raw_s']:.2f} s, with the documents in a bare table",
        f"{made['raw_and_documents_s']:.2f} s.",
    ]
    for point in facts.get("growth", []):
        lines += [
            f"\n{point['rows']:,} vectors: built in {point['build_s']:.0f} s,",
            f"opened in {1000 * point['open_s']:.0f} ms,",
            f"{point['search_ms']:.2f} ms a query in a batch of 256,",
            f"resident memory {point['resident_of_vectors']:.2f} of the vectors.",
        ]
    return "\n".join(lines)


def models_table(facts: dict[str, Any]) -> str:
    prefix, batch, score, adapters = (facts[name] for name in ("prefix", "batch", "score", "adapters"))
    size = f"{prefix['parameters'] / 1e6:.0f}M parameters"
    lines = ["| CPU seconds, one thread | plainly | ours | ratio |", "|-|-|-|-|"]
    for what, plain, ours in (
        (f"6 questions on {prefix['prefix_tokens']:,} tokens, {size}", prefix["apart"], prefix["together"]),
        ("the same, the document read before", prefix["apart"], prefix["kept"]),
        ("48 prompts of mixed lengths", batch["apart"], batch["together"]),
        ("77 choices scored after one prompt", score["apart"], score["together"]),
        ("48 prompts over 3 adapters; plainly: the base alone", adapters["base"], adapters["mixed"]),
    ):
        lines.append(f"| {what} | {plain:.2f} | {ours:.2f} | {plain / ours:.1f} |")
    layers = facts["layers"]
    lines += [
        f"\nA switch of adapters takes {adapters['switch_ms']:.1f} ms. Budget, rate limit and retries cost",
        f"{layers['layers_us']:.0f} µs a call; with the cache {layers['cache_miss_us']:.0f} µs to keep an answer and",
        f"{layers['cache_hit_us']:.0f} µs to give one.",
    ]
    return "\n".join(lines)


def finetuning_table(facts: dict[str, Any]) -> str:
    lines = [
        f"LoRA of `tiny` on {facts['rows']} rows, {facts['epochs']} epochs, one thread; medians of {facts['rounds']}"
        " runs:\n",
        "| | seconds | CPU seconds | tokens | peak memory |",
        "|-|-|-|-|-|",
    ]
    for way, called in (("ours", "`finetune`"), ("trl", "`SFTTrainer` with PEFT, plainly")):
        row, peak = facts[way], facts["peak_bytes"][way] / 1e6
        lines.append(
            f"| {called} | {row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['tokens']:,} | {peak:.0f} MB |"
        )
    lines.append(f"\nRatio of seconds, taken in turn: {facts['ratio_seconds']:.2f}.")
    return "\n".join(lines)


def pearl_table(facts: dict[str, Any]) -> str:
    parse, replay, waves, tokens = facts["parse"], facts["replay"], facts["waves"], facts["tokens"]
    equal, limits = replay["byte_equal"], facts["limits"]
    over, speedup = waves["wall_over_critical_path"], waves["speedup_over_serial"]
    anew = f"{tokens['left_of_serial_uncached']:.0%}; without the warming {tokens['left_without_warming']:.0%}"
    rebuilt = f"{equal['concurrency 1']} of {replay['questions']}, with eight calls at once {equal['concurrency 8']}"
    resumed = f"{replay['resumed_equal']} of {replay['kills']} go on to the same answer, "
    rows = {
        "published plans that are read": f"{parse['accepted']} of {parse['plans']}",
        "time to read a plan": f"{parse['cpu_ms_a_plan']:.2f} ms of one core",
        f"{parse['slips']['classes']} kinds of slips put into them": f"{parse['slips']['misread']} misread",
        "recorded questions rebuilt to the byte": rebuilt,
        "kills, one behind each line of a trace": f"{resumed}{replay['calls_repeated']} calls repeated",
        "wall time over the critical path, all calls alike": f"{over['median']:.2f} median, {over['mean']:.2f} mean",
        "speed-up over one call at a time": f"{speedup['mean']:.2f} mean, {waves['possible_mean']:.2f} possible",
        "tokens read anew, of those read one by one without a cache": anew,
        "times that a document is read anew for a question":
            f"{tokens['ways']['warmed']['documents_read_anew_a_question']:.2f}",
        f"{limits['questions']:,} questions at once, limit {limits['limit']}":
            f"{limits['most_at_once']} calls at once",
    }  # fmt: skip
    if "local" in facts:
        here = facts["local"]
        ways = f"{here['apart_cpu_s'] / here['shared_cpu_s']:.1f} times as fast as without, the same text"
        rows[f"{here['steps']} steps on {here['document_tokens']:,} tokens, a local model's cache reused"] = ways
    return "\n".join(["| | |", "|-|-|", *(f"| {what} | {value} |" for what, value in rows.items())])


def retrieval_table(facts: dict[str, Any]) -> str:
    lines = [
        "| nDCG@10 | documents | queries | BM25 | MiniLM | both | both less the better one (95 %) |",
        "|-" * 7 + "|",
    ]
    for each in facts["collections"]:
        values = " | ".join(f"{row['ndcg@10']:.3f}" for row in each["rows"])
        gain = each["gain"]
        interval = f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        lines.append(f"| {each['name']} | {each['documents']:,} | {each['queries']:,} | {values} | {interval} |")
    for part, names in (("development", "adi, pubmedqa and scifact"), ("test", "the others")):
        values = " | ".join(f"{facts['means'][part][name]:.3f}" for name in ("bm25", "dense", "hybrid"))
        lines.append(f"| mean of {names} | | | {values} | |")
    read, ingest = facts["extractive"], facts["ingest"]
    one, two, stages = read["sentences_1"], read["sentences_2"], read["stage_p50_ms"]
    bm25, dense, hybrid = (_median_p50(facts, name) for name in ("bm25", "dense", "hybrid"))
    lines += [
        "\nThe fusion was chosen on the first three collections. A single query takes",
        f"{bm25:.1f} ms (BM25), {dense:.0f} ms (MiniLM on one core) and {hybrid:.0f} ms (both).",
        f"\nWithout a language model, on {read['questions']:,} questions of xquad: one cited",
        f"sentence holds the answer for {one['answer_in_a_cited_sentence']:.1%}, one of two for",
        f"{two['answer_in_a_cited_sentence']:.1%}; {one['citation_precision']:.1%} of single sentences come from the",
        f"right passage; F1 {one['f1']:.3f}. {one['refused']:.1%} of the questions are refused wrongly, and",
        f"{read['foreign_refused']:.1%} of {read['foreign_questions']} that no passage answers, rightly.",
        f"Retrieving takes {stages['retrieve']:.0f} ms, reading {stages['answer']:.0f} ms.",
        f"\nBringing {ingest['files']} files in takes {ingest['of_the_embedder_alone']:.2f} of the processor's time",
        f"that the embedder alone takes ({ingest['files_a_second']:.1f} files a second on one core); again, unchanged,",
        f"{ingest['unchanged_seconds']:.2f} s.",
    ]
    return "\n".join(lines)


def training_table(facts: dict[str, Any]) -> str:
    lines = ["| nDCG@10 | held-out queries | before | after | gain (95 %) |", "|-|-|-|-|-|"]
    if "embedder" in facts:
        row = facts["embedder"]
        what = f"embedder, {row['collection']}, {row['folds_done']} of {row['folds']} folds"
        lines.append(
            f"| {what} | {row['queries']:,} | {row['before']['ndcg@10']:.3f} | {row['after']['ndcg@10']:.3f} | "
            f"{_interval(row['gain'])} |"
        )
    if "reranker" in facts:
        row = facts["reranker"]
        for name, gain in row["gain"].items():
            before, after = row["ndcg"]["minilm"], row["ndcg"][name]
            lines.append(
                f"| made-up facts, {name} | {row['held_out']:,} | {before:.3f} | {after:.3f} | {_interval(gain)} |"
            )
    if "reader" in facts:
        row = facts["reader"]
        lines += [
            f"| made-up facts, embedder taught by its reader | {row['held_out']:,} | {row['ndcg_before']:.3f} | "
            f"{row['ndcg_after']:.3f} | {_interval(row['ndcg_gain'])} |",
            f"| the reader's own answers, exact match | {row['held_out']:,} | {row['right_before']:.3f} | "
            f"{row['right_after']:.3f} | {_interval(row['right_gain'])} |",
        ]
    if "embedder" in facts:
        row = facts["embedder"]
        low, high = row["gain"]["low_by_groups"], row["gain"]["high_by_groups"]
        lines += [
            f"\nThe embedder is MiniLM, trained for {row['epochs']:g} epoch on {' and '.join(map(str, row['pairs']))}",
            f"pairs with mined negatives ({row['negatives']} each), learning rate",
            f"{row['learning_rate']:g}, batches of {row['batch_size']}; {row['max_length']} tokens of a text are read,",
            "before and after. Drawn by groups of claims that share documents, the interval of its gain is",
            f"{low:+.3f} to {high:+.3f}{'.' if low > 0 else ': no gain is shown.'}",
        ]
    if "reader" in facts:
        row = facts["reader"]
        lines += [
            f"\nThe made-up facts are those of `tiny`, domains: {row['domains']}, each with 120 passages;",
            f"{row['questions']} questions with answers, but no judgement, taught the embedder by {row['passages']}",
            "passages each.",
        ]
    return "\n".join(lines)


def _interval(gain: dict[str, float]) -> str:
    return f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"


def _median_p50(facts: dict[str, Any], name: str) -> float:
    values = sorted(row["p50_ms"] for each in facts["collections"] for row in each["rows"] if row["retriever"] == name)
    return float(values[len(values) // 2])


def serving_table(facts: dict[str, Any]) -> str:
    words = facts["most_words"]
    rows = [
        ("one model", f"4 to {words['short']} words", facts["one_model"]),
        ("three adapters", f"4 to {words['short']} words", facts["three_adapters"]),
        ("one model", f"4 to {words['long']} words", facts["one_model_long_prompts"]),
        ("three adapters", f"4 to {words['long']} words", facts["three_adapters_long_prompts"]),
    ]
    lines = [
        f"{facts['requests']} requests for {facts['new_tokens']} tokens each, a random Llama of 4 million parameters",
        f"({facts['machine']}, threads: {facts['threads']}, shared with other work), seconds:\n",
        "| asked | prompts | one after the other | all at once | |",
        "|-|-|-|-|-|",
    ]
    for what, prompts, row in rows:
        times = f"{row['one_at_a_time_s']:.1f} | {row['at_once_s']:.1f}"
        lines.append(f"| {what} | {prompts} | {times} | {row['ratio']:.1f} x faster |")
    lines.append("\nReading a prompt takes the same computation either way, so long prompts gain less.")
    return "\n".join(lines)


def quality_table(facts: dict[str, Any]) -> str:
    sets = facts["quality"]
    lines = [f"| selector | {' | '.join(each['name'] for each in sets)} |", "|-" * (len(sets) + 1) + "|"]
    for place, row in enumerate(sets[0]["rows"]):
        cells = " | ".join(f"{each['rows'][place]['at_1']:.3f} / {each['rows'][place]['at_8']:.3f}" for each in sets)
        lines.append(f"| {row['selector'].replace('|', 'then')} | {cells} |")
    leaks = ", ".join(f"{each['leaked_test_rows']} of {each['test_rows']:,} ({each['name']})" for each in sets)
    lines.append(f"\nTest rows that stand in the pool, left in for comparison with others: {leaks}.")
    return "\n".join(lines)


def reliability_table(facts: dict[str, Any]) -> str:
    names = ("injected", "noticed", "recovered", "harmless", "lost", "wrong", "unexplained")
    lines = [
        f"{facts['minutes']:.0f} minutes, seed {facts['seed']}, {sum(facts['rounds'].values())} rounds:\n",
        f"| faults | {' | '.join(names[:5])} | silently wrong | unexplained |",
        "|-" * (len(names) + 1) + "|",
    ]
    rows = {**facts["faults"], "all": facts["totals"]}
    lines += [f"| {kind} | {' | '.join(f'{row[name]:,}' for name in names)} |" for kind, row in rows.items()]
    return "\n".join(lines)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "demo": ("icl_vs_finetuned/results/demo.json", results_table),
    "banking77": ("icl_vs_finetuned/results/banking77.json", results_table),
    "cases": ("icl_vs_finetuned/results/*.json", cases_table),
    "harness": ("harness/results/harness.json", harness_table),
    "tiny": ("tiny/results/tiny.json", tiny_table),
    "selector-speed": ("selectors/results/selectors.json", speed_table),
    "selector-quality": ("selectors/results/selectors.json", quality_table),
    "index": ("index/results/index.json", index_table),
    "retrieval": ("retrieval/results/retrieval.json", retrieval_table),
    "retriever-training": ("retrieval/results/training.json", training_table),
    "models": ("models/results/models.json", models_table),
    "finetuning": ("finetuning/results/lora.json", finetuning_table),
    "pearl": ("pearl/results/pearl.json", pearl_table),
    "serving": ("serving/results/serving.json", serving_table),
    "reliability": ("reliability/results/reliability.json", reliability_table),
    "statistics": ("statistics/results/statistics.json", statistics_table),
}


def read_results(path: str) -> dict[str, Any]:
    """What a file holds; for a pattern, what each file holds by its name."""
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(HERE.glob(path))}
    if "*" in path:
        return found
    (facts,) = found.values()
    return dict(facts)


def updated(text: str) -> str:
    for name, (path, table) in TABLES.items():
        if f"<!-- {name} -->" in text:
            made = table(read_results(path))
            block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
            text = block.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)  # type: ignore[misc]
    return text


def main() -> None:
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "ragkit/tiny/weights/README.md"):
        old = path.read_text(encoding="utf-8")
        new = updated(old)
        if new != old:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"out of date: {stale}; run python benchmarks/update_readme.py")


if __name__ == "__main__":
    main()
