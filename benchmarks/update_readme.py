"""Generate the tables of README and docs from the committed results; ``--check`` only compares them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

from ragkit.comparison import Results
from ragkit_pipelines.compare.reports.score_table import score_text
from ragkit_pipelines.compare.statistics.recommendation import recommend

HERE = Path(__file__).parent
ROOT = HERE.parent
CASES = ("clinc150", "trec6", "geoquery", "scan", "scan-jump", "instructions", "natural-instructions")


def results_table(facts: dict[str, Any]) -> str:
    results = Results.model_validate(facts)
    n = max(row.n for row in results.rows)
    tests = f"{n} test rows; {results.leaked_test_rows} test rows also appeared in the pool and were excluded"
    # Recomputed, because the stored evidence has the wording of the version that wrote the file.
    advice = recommend(results.rows, results.pairs, results.differences)
    return f"{results.markdown()}\n\n{tests}. Recommendation: {advice.strategy or 'none'}. {advice.evidence}."


def study_table(facts: dict[str, Any]) -> str:
    """The results of a study by pool size."""
    return (
        f"{results_table(facts['results'])} {facts['cores']} cores ({facts['processor']}), shared with other programs: "
        f"{facts['cpu_s']:,.0f} CPU s, and at most {facts['peak_memory_gb']:.1f} GiB of memory."
    )


def demo_table(facts: dict[str, Any]) -> str:
    """The results of the demo, with its time and memory."""
    first, again = facts["with_conversion"], facts["with_cached_model"]
    return (
        f"{results_table(facts['results'])} The demo takes {again['wall_s']:.0f} s ({again['cpu_s']:.0f} CPU s) on "
        f"{facts['cores']} cores ({facts['processor']}), {first['wall_s'] - again['wall_s']:.0f} s more in "
        f"the first run, and at most {max(first['peak_memory_gb'], again['peak_memory_gb']):.1f} GiB of memory."
    )


def real_models_table(facts: dict[str, dict[str, Any]]) -> str:
    """A line for each strategy, a column for each model."""
    models = {name.removeprefix("trec6-"): Results.model_validate(each["results"]) for name, each in facts.items()}
    names = dict.fromkeys(row.strategy for results in models.values() for row in results.rows)
    lines = ["| strategy | " + " | ".join(models) + " |", "|-" * (len(models) + 1) + "|"]
    for name in names:
        cells = [score_text([row for row in each.rows if row.strategy == name]) for each in models.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    read = [row for each in models.values() for row in each.rows if row.unreadable is not None]
    unreadable, asked = sum(row.unreadable or 0 for row in read), sum(row.n for row in read)
    lines.append(f"\nOf {asked:,} generated answers, {unreadable} could not be read.")
    return "\n".join(lines)


def cases_table(facts: dict[str, dict[str, Any]]) -> str:
    """One row for each case that has results: its best strategy with the fewest and with the most examples."""
    lines = [
        "| case | metric | test rows | majority baseline | best with the smallest pool | best with the largest pool | "
        "significantly better than the others |",
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
        "\nMeans of three seeds, which determine the sampled pool; no language model is involved. `copy:` returns the",
        "output of the most similar example. It measures the selector, and says nothing about a large model that is",
        "prompted with the selected examples.",
    ]
    return "\n".join(lines)


def _best(results: Results, size: int) -> str:
    scores: dict[str, list[float]] = {}
    for row in results.rows:
        if row.size == size and row.error is None:
            scores.setdefault(row.strategy, []).append(row.score)
    name, own = max(scores.items(), key=lambda each: sum(each[1]) / len(each[1]))
    return f"{name} {sum(own) / len(own):.3f} ({size:,} examples)"


def harness_table(facts: dict[str, Any]) -> str:
    """One row for each measurement."""
    lines = ["| measurement | result | target | machine load |", "|-|-|-|-|"]
    for part in ("local", "http"):
        for row in facts.get(part, {}).get("measured", ()):
            what, unit, goal = f"calls of `{row.get('model')}`", "CPU s", "" if row.get("model") == "tiny" else "1 %"
            if part == "http":
                what = f"HTTP calls of {facts[part]['latency_s']} s each, {facts[part]['at_once']} concurrent"
                unit = "s"
            lines.append(
                f"| overhead over the bare model, {row['calls']:,} {what}, {row['strategy']} | {row['overhead']:+.1%} "
                f"({row['more_s']:+.2f} on {row['bare_s']:.1f} {unit}) | {goal} | {facts[part]['load']:.0f} |"
            )
    for part, what, wall, cpu, goal in (
        (
            "sweep",
            "rerun of 20 finished strategies from stored results, in a new process",
            "again_s",
            "again_cpu_s",
            10,
        ),
        (
            "bootstrap",
            "10,000 bootstrap draws over 20 strategies, 5 seeds and 3,000 items, all differences",
            "wall_s",
            "cpu_s",
            2,
        ),
    ):
        if part in facts:
            seconds = f"{facts[part][wall]:.1f} s ({facts[part][cpu]:.1f} CPU s)"
            lines.append(f"| {what} | {seconds} | {goal} s | {facts[part]['load']:.0f} |")
    kills = facts["kills"]
    lines += [
        f"| finished calls that were repeated after {kills['kills']} interruptions at random points of "
        f"{kills['calls']} calls | "
        f"{kills['finished_calls_repeated']} | 0 | {kills['load']:.0f} |",
        f"| interrupted runs with the same result as an uninterrupted one | {kills['same_result']} | {kills['kills']} "
        "| |",
        "\nExample selection and imports are not counted as overhead. A call is finished when its response is",
        "stored; of",
        f"the calls in progress when a run was killed, at most {kills['most_under_way_asked_again']} were repeated.",
        "The machine has two cores. If the load is above 2, other work was running, and only CPU seconds and counts",
        "are",
        "reliable.",
    ]
    return "\n".join(lines)


def statistics_table(facts: dict[str, Any]) -> str:
    covered, winners, claim = facts["coverage"], facts["false_winners"], facts["claim"]
    settings = len(covered) // len({row["seeds"] for row in covered})
    lines = [
        f"| seeds | coverage of ragkit's 95 % intervals, lowest to highest of {settings} settings | mean width | "
        "coverage "
        "if seeds and items are resampled | highest rate of false winners |",
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
        f"\n{sets:,} simulated comparisons per setting: 30 or 200 items, four seed variances, and equal and unequal",
        "strategies. False winners were counted in "
        f"{tried[0]:,} comparisons of five equal strategies and {tried[-1]:,} of two.",
        f"The highest rate, {most['false_winners']:.4f}, is {found:.0f} of {most['sets']:,}; "
        f"5 % would be {fair:.0f} ± {(0.95 * fair) ** 0.5:.0f}.",
        "With one seed, the interval covers the true value for this seed only: if training varies strongly, a winner",
        "was",
        f"named in up to {claim['most_winners_of_one_seed_that_are_none_over_seeds']:.0%} of",
        "one-seed comparisons of strategies that are equally good on average over all seeds.",
        "With few seeds, the intervals are conservative and therefore wide: use five seeds or more.",
        f"10,000 draws over 20 strategies, 5 seeds and 3,000 items take {facts['speed']['wall_s']:.2f} s on one core.",
        *(_set_level_lines(facts["set_level"]) if "set_level" in facts else []),
    ]
    return "\n".join(lines)


def _set_level_lines(facts: dict[str, Any]) -> list[str]:
    covered, equal = facts["coverage"], facts["equivalence"]
    lines = [
        "\n| macro-F1, seeds | coverage of 95 % intervals, lowest to highest | mean width | "
        "highest rate of false winners |",
        "|-|-|-|-|",
    ]
    for seeds in sorted({row["seeds"] for row in covered}):
        own = [row for row in covered if row["seeds"] == seeds]
        shares, width = [row["coverage"] for row in own], sum(row["width"] for row in own) / len(own)
        named = max(row["false_winners"] for row in facts["false_winners"] if row["seeds"] == seeds)
        lines.append(f"| {seeds} | {min(shares):.3f} to {max(shares):.3f} | {width:.2f} | {named:.3f} |")
    most = max(facts["false_winners"], key=lambda row: float(row["false_winners"]))
    false, power = ([row[name] for row in equal] for name in ("false_equivalence", "power_if_equal"))
    return [
        *lines,
        f"\n{covered[0]['sets']:,} comparisons per setting, with four equal or six unequal classes and 60 or 300 rows.",
        f"The highest rate of false winners is {most['false_winners'] * most['sets']:.0f} of {most['sets']:,};",
        "5 % would be",
        f"{0.05 * most['sets']:.0f} ± {(0.0475 * most['sets']) ** 0.5:.0f}.",
        f"Strategies that differ by exactly the margin of {100 * equal[0]['margin']:.0f} points were called equivalent",
        f"in {min(false):.1%} to {max(false):.1%} of comparisons, by accuracy and by macro-F1, with 300 or 1,000 rows,",
        f"and equally good ones in {min(power):.0%} to {max(power):.0%}.",
        f"10,000 draws of macro-F1 over 20 strategies, 5 seeds, 3,000 items and 77 classes take "
        f"{facts['speed']['cpu_s']:.1f} CPU seconds.",
    ]


def tiny_table(facts: dict[str, Any]) -> str:
    lines = ["| strategy | exact match | 95 % interval | ceiling | queries |", "|-|-|-|-|-|"]
    for row in facts["rows"]:
        low, high = row["interval"]
        ceiling = "" if row["ceiling"] is None else f"{row['ceiling']:.3f}"
        lines.append(f"| {row['arm']} | {row['score']:.3f} | {low:.3f} to {high:.3f} | {ceiling} | {row['n']} |")
    return "\n".join(lines)


def speed_table(facts: dict[str, Any]) -> str:
    jaccard, bm25, ngram, mmr, dense = (facts[name] for name in ("jaccard", "bm25", "ngram", "mmr", "embedding"))
    lines = ["| 8 examples for one query | ragkit | compared with | ratio |", "|-|-|-|-|"]
    rows = [
        ("Jaccard, 50,000 rows", jaccard["ours_ms"], "loop over split, set and sort", jaccard["naive_ms"]),
        ("", jaccard["ours_ms"], "the same, with cached sets", jaccard["cached_sets_ms"]),
        ("BM25, 50,000 rows", bm25["ours_ms"], "bm25s with numba", bm25["bm25s_numba_ms"]),
        ("n-grams, 10,000 rows", ngram["ours_ms"], "LangChain's n-gram selector", ngram["langchain_ms"]),
        ("MMR, 100 candidates", mmr["ours_ms"], "LangChain's MMR", mmr["langchain_ms"]),
        ("embeddings, 50,000 rows", dense["ours_ms"], "FAISS alone", dense["faiss_ms"]),
    ]
    for what, ours, peer, theirs in rows:
        ratio = f"{theirs / ours:,.0f} times as fast" if theirs > 2 * ours else f"{ours / theirs:.2f} times the time"
        lines.append(f"| {what} | {ours:.3f} ms | {peer}: {theirs:,.3f} ms | {ratio} |")
    batches, growth = facts["batches"], facts.get("growth", [])
    many = f"`select_many` of {batches['queries']:,} queries on {batches['cores']} cores takes"
    lines.append(
        f"\n{many} {batches['jaccard_share_of_a_loop']:.2f} of the time of a loop (Jaccard), "
        f"{batches['bm25_share_of_a_loop']:.2f} (BM25). A row of {jaccard['tokens_a_row']:.0f} different words takes "
        f"{jaccard['bytes_a_row']:.0f} bytes."
    )
    lines += ["\n| pool | Jaccard | BM25 |", "|-|-|-|"]
    lines += [f"| {p['rows']:,} rows | {p['jaccard_ms']:.2f} ms | {p['bm25_ms']:.2f} ms |" for p in growth]
    return "\n".join(lines)


def index_table(facts: dict[str, Any]) -> str:
    search, single, build = facts["search"], facts["single"], facts["build"]
    lines = [
        f"{search['rows']:,} vectors of 384 numbers, 10 hits, one thread, milliseconds per query:\n",
        "| batch size | ragkit | FAISS | FAISS with BLAS for every batch size |",
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
        f"\nFor comparison: {peers}.",
        f"A single query over {single['rows']:,} vectors takes {single['more_us']:.0f} µs more than FAISS alone",
        f"({single['ours_us']:.0f} µs in total). Loading the texts and metadata of the hits adds {more:.2f} ms per",
        "query.",
        f"With a filter that 1 % of the documents match, a batch of 1,000 takes {filtered['ratio']:.3f} of the time",
        "without",
        f"a filter; compiling the filter takes {filtered['first_use_ms']:.0f} ms, or",
        f"{filtered['first_use_indexed_ms']:.0f} ms with an index on its field.",
        f"Building an index of {made['rows']:,} documents takes {made['ours_s']:.2f} s. FAISS takes",
        f"{made['raw_s']:.2f} s if",
        f"it also writes, syncs and checksums the same vectors, and {made['raw_and_documents_s']:.2f} s with the",
        "documents",
        "in a plain table.",
        "\n| vectors | build | open | query in a batch of 256 | resident memory / size of the vectors |",
        "|-|-|-|-|-|",
    ]
    for point in facts.get("growth", []):
        lines.append(
            f"| {point['rows']:,} | {point['build_s']:.0f} s | {1000 * point['open_s']:.0f} ms | "
            f"{point['search_ms']:.2f} ms | {point['resident_of_vectors']:.2f} |"
        )
    return "\n".join(lines)


def models_table(facts: dict[str, Any]) -> str:
    prefix, batch, score, adapters = (facts[name] for name in ("prefix", "batch", "score", "adapters"))
    size = f"{prefix['parameters'] / 1e6:.0f}M parameters"
    lines = ["| CPU seconds, one thread | baseline | ragkit | ratio |", "|-|-|-|-|"]
    for what, plain, ours in (
        (f"6 questions on {prefix['prefix_tokens']:,} tokens, {size}", prefix["apart"], prefix["together"]),
        ("the same, with the document already in the KV cache", prefix["apart"], prefix["kept"]),
        ("48 prompts of mixed lengths", batch["apart"], batch["together"]),
        ("77 choices scored after one prompt", score["apart"], score["together"]),
        ("48 prompts over 3 adapters (baseline: the base model alone)", adapters["base"], adapters["mixed"]),
    ):
        lines.append(f"| {what} | {plain:.2f} | {ours:.2f} | {plain / ours:.1f} |")
    layers = facts["layers"]
    lines += [
        f"\nSwitching adapters takes {adapters['switch_ms']:.1f} ms. Budget, rate limit and retries add",
        f"{layers['layers_us']:.0f} µs per call. With the cache, storing a response takes",
        f"{layers['cache_miss_us']:.0f} µs and",
        f"reading one {layers['cache_hit_us']:.0f} µs.",
    ]
    return "\n".join(lines)


def precision_table(facts: dict[str, Any]) -> str:
    columns = ("float32", "bfloat16", "whole bfloat16")
    lines = [f"| tokens per CPU second, two threads | {' | '.join(columns)} | bfloat16 / float32 |", "|-" * 5 + "|"]
    measured = facts["threads=2"]
    for part, what in (("prefill", "prefill of {} tokens"), ("decode", "decoding {} rows at once")):
        for name, found in measured[part].items():
            speeds = [found[column]["tokens_per_cpu_second"] for column in columns]
            shown = what.format(name.replace("x", " × ")).replace("1 rows at once", "1 row")
            lines.append(f"| {shown} | {' | '.join(f'{each:,.0f}' for each in speeds)} | {speeds[1] / speeds[0]:.1f} |")
    lines.append(f"\nMeasured with {facts['model']} on {facts['processor']}. Loading the model takes")
    lines.append(
        f"{facts['load']['bfloat16']['cpu_seconds']:.1f} CPU seconds. In the last column but one, transformers"
    )
    lines.append("runs the model in bfloat16 as a whole.")
    return "\n".join(lines)


def finetuning_table(facts: dict[str, Any]) -> str:
    lines = [
        f"LoRA of `tiny` on {facts['rows']} rows, {facts['epochs']} epochs, one thread; medians of {facts['rounds']}"
        " runs:\n",
        "| | seconds | CPU seconds | tokens | peak memory |",
        "|-|-|-|-|-|",
    ]
    for name, called in (("ours", "`finetune`"), ("trl", "`SFTTrainer` with PEFT, without ragkit")):
        row, peak = facts[name], facts["peak_bytes"][name] / 1e6
        lines.append(
            f"| {called} | {row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['tokens']:,} | {peak:.0f} MB |"
        )
    lines.append(f"\nRatio of seconds, measured alternately: {facts['ratio_seconds']:.2f}.")
    return "\n".join(lines)


TRAINED = {
    "untrained": "nothing",
    "lora": "`lora`",
    "rslora": "`rslora`",
    "full": "`full`",
    "last-layers": "`last-layers`",
    "prompt-tuning": "`prompt-tuning`",
    "text": "`lora`, after objective `text` on {messages} messages",
    "preference": "objective `preference` on {pairs} pairs, after `lora`",
    "mixture": "`lora` on a mixture of two tasks",
    "imitation": "`lora` on the answers of a teacher",
    "classifier-head": "`classifier-head`, MiniLM",
    "encoder-lora": "`lora`, MiniLM",
    "encoder-full": "`full`, MiniLM",
}


def training_methods_table(facts: dict[str, dict[str, Any]]) -> str:
    """One row for each method with a model of its own, then the results of the other methods in words."""
    settings = next(iter(facts.values()))["settings"]
    processors = " and ".join(sorted({row["processor"] for row in facts.values()}))
    lines = [
        "| trained | rows | epochs | accuracy (95 % interval) | trained tokens | CPU seconds | peak memory |",
        "|-" * 7 + "|",
    ]
    for name, what in TRAINED.items():
        if name in facts and not facts[name]["error"]:
            row = facts[name]
            epochs = row["settings"]["epochs"] if row["tokens"] else ""
            size = row["settings"]["rows"] if name != "untrained" else ""
            tokens = f"{row['tokens']:,}" if row["tokens"] else ""
            seconds = f"{row['training_cpu_s']:.0f}" if name != "untrained" else ""
            cells = f"{_interval_of(row['scores'][0])} | {tokens} | {seconds} | {row['peak_memory_gb']:.1f} GiB"
            lines.append(f"| {what.format(**row['facts'])} | {size} | {epochs} | {cells} |")
    lines.append(
        f"\nSmolLM2 (or MiniLM), support requests of 16 teams, {settings['test']} test rows, one thread "
        f"({processors}). The runs are short: they show that a method works "
        "and what it costs, and the intervals are too wide to rank methods. CPU seconds are those of training, and "
        "memory includes answering the test rows."
    )
    lines += [f"\n{note}" for note in _training_notes(facts)]
    return "\n".join(lines)


def _training_notes(facts: dict[str, dict[str, Any]]) -> Iterator[str]:
    done = {name: row for name, row in facts.items() if not row["error"]}
    if "mixture" in done:
        other = done["mixture"]["scores"][1]
        yield f"The model of the mixture also answers {other['of']}: {_interval_of(other)} are exactly right."
    if "imitation" in done:
        made = done["imitation"]["facts"]
        yield (
            f"The teacher is {made['teacher']} with one example per team; {made['correct_answers']} of its "
            f"{made['answers']} answers are right, and they take {made['teacher_cpu_s']:.0f} CPU seconds."
        )
    if "serve" in done:
        row = done["serve"]
        names, n = [score["of"] for score in row["scores"]], row["scores"][0]["n"]
        same = " and ".join(f"{row['facts'][f'{name}_same_answers']} of {n} (`{name}`)" for name in names)
        yield (
            f"`ragkit serve` with both adapters over one base model gives the same answers over HTTP as the models in "
            f"the process for {same}. The server used {row['facts']['server_peak_memory_gb']:.1f} GiB."
        )
    if "vendor" in done:
        made, n = done["vendor"]["facts"], done["vendor"]["settings"]["test"]
        yield (
            f"`api` was run against a scripted vendor over HTTP, which trains nothing: {made['uploaded_rows']} rows "
            f"were uploaded, and {made['answers_of_the_tuned_model']} of {n} requests were answered by the new model."
        )
    if facts.get("qlora", {}).get("error"):
        yield "`qlora` needs a CUDA GPU and was not measured."


def _interval_of(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return f"{score['score']:.3f} ({low:.3f} to {high:.3f})"


def pearl_table(facts: dict[str, Any]) -> str:
    parse, replay, waves, tokens = facts["parse"], facts["replay"], facts["waves"], facts["tokens"]
    equal, limits = replay["byte_equal"], facts["limits"]
    over, speedup = waves["wall_over_critical_path"], waves["speedup_over_serial"]
    anew = f"{tokens['left_of_serial_uncached']:.0%}; without warming the cache {tokens['left_without_warming']:.0%}"
    rebuilt = f"{equal['concurrency 1']} of {replay['questions']}; with 8 concurrent calls {equal['concurrency 8']}"
    resumed = f"{replay['resumed_equal']} of {replay['kills']} with the same answer, "
    resumed += f"{replay['calls_repeated']} calls repeated"
    slips, most = parse["slips"], limits["most_at_once"]
    prefills = tokens["ways"]["warmed"]["documents_read_anew_a_question"]
    rows = {
        "published plans that are parsed": f"{parse['accepted']} of {parse['plans']}",
        "time to parse a plan": f"{parse['cpu_ms_a_plan']:.2f} ms of one core",
        f"{slips['classes']} kinds of mistakes inserted into them": f"{slips['misread']} misinterpreted",
        "recorded questions reproduced byte for byte": rebuilt,
        "runs resumed after an interruption, one after each line of a trace": resumed,
        "elapsed time / critical path, with calls of equal duration":
            f"{over['median']:.2f} median, {over['mean']:.2f} mean",
        "speed-up over sequential calls": f"{speedup['mean']:.2f} mean, {waves['possible_mean']:.2f} possible",
        "prompt tokens not read from the cache / those of sequential calls without a cache": anew,
        "times that a document is prefilled per question": f"{prefills:.2f}",
        f"{limits['questions']:,} concurrent questions, limit {limits['limit']}": f"{most} concurrent calls",
    }  # fmt: skip
    if "local" in facts:
        here = facts["local"]
        gain = f"{here['apart_cpu_s'] / here['shared_cpu_s']:.1f} times as fast as without, with the same text"
        rows[f"{here['steps']} steps on {here['document_tokens']:,} tokens, reusing a local model's KV cache"] = gain
    return "\n".join(["| measurement | result |", "|-|-|", *(f"| {what} | {value} |" for what, value in rows.items())])


def retrieval_table(facts: dict[str, Any]) -> str:
    lines = [
        "| nDCG@10 | documents | queries | BM25 | MiniLM | hybrid | hybrid minus the better of the two (95 %) |",
        "|-" * 7 + "|",
    ]
    for each in facts["collections"]:
        values = " | ".join(f"{row['ndcg@10']:.3f}" for row in each["rows"])
        gain = each["gain"]
        interval = f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        lines.append(f"| {each['name']} | {each['documents']:,} | {each['queries']:,} | {values} | {interval} |")
    values = " | ".join(f"{facts['means'][name]:.3f}" for name in ("bm25", "dense", "hybrid"))
    lines.append(f"| mean | | | {values} | |")
    read, ingest = facts["extractive"], facts["ingest"]
    one, two, stages = read["sentences_1"], read["sentences_2"], read["stage_p50_ms"]
    bm25, dense, hybrid = (_median_p50(facts, name) for name in ("bm25", "dense", "hybrid"))
    lines += [
        '\nThe hybrid fuses ranks (`rrf`); with `fusion="weighted"`, its mean is',
        f"{facts['fusion_means']['weighted']:.3f}. A single query takes",
        f"{bm25:.1f} ms (BM25), {dense:.0f} ms (MiniLM on one core) and {hybrid:.0f} ms (hybrid).",
        f"\nWithout a language model, on {read['questions']:,} questions of xquad: the cited sentence contains the",
        "answer",
        f"for {one['answer_in_a_cited_sentence']:.1%} of the questions, and one of two cited sentences for",
        f"{two['answer_in_a_cited_sentence']:.1%}; {one['citation_precision']:.1%} of single sentences come from the",
        f"correct passage; F1 is {one['f1']:.3f}. {one['refused']:.1%} of the questions are refused although a passage",
        f"answers them. Of {read['foreign_questions']} questions that no passage answers,",
        f"{read['foreign_refused']:.1%} are",
        f"refused. Retrieval takes {stages['retrieve']:.0f} ms, and the extractive reader {stages['answer']:.0f} ms.",
        f"\nIndexing {ingest['files']} files takes {ingest['of_the_embedder_alone']:.2f} times the CPU time of the",
        "embedder",
        f"alone ({ingest['files_a_second']:.1f} files per second on one core). Syncing the unchanged files again takes",
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
                f"| invented facts, {name} | {row['held_out']:,} | {before:.3f} | {after:.3f} | {_interval(gain)} |"
            )
    if "reader" in facts:
        row = facts["reader"]
        lines += [
            f"| invented facts, embedder distilled from the answer model | {row['held_out']:,} | "
            f"{row['ndcg_before']:.3f} | "
            f"{row['ndcg_after']:.3f} | {_interval(row['ndcg_gain'])} |",
            f"| invented facts, exact match of the answer model | {row['held_out']:,} | {row['right_before']:.3f} | "
            f"{row['right_after']:.3f} | {_interval(row['right_gain'])} |",
        ]
    if "embedder" in facts:
        row = facts["embedder"]
        low, high = row["gain"]["low_by_groups"], row["gain"]["high_by_groups"]
        lines += [
            f"\nThe embedder is MiniLM, trained for {row['epochs']:g} epoch on {' and '.join(map(str, row['pairs']))}",
            f"pairs with mined negatives ({row['negatives']} each), with a learning rate of {row['learning_rate']:g},",
            f"batches of {row['batch_size']}, and texts truncated to {row['max_length']} tokens, before and after. If",
            "groups",
            "of claims that share documents are resampled, the interval of its gain is",
            f"{low:+.3f} to {high:+.3f}{'.' if low > 0 else ': no gain is shown.'}",
        ]
    if "reader" in facts:
        row = facts["reader"]
        lines += [
            f"\nThe invented facts are those of `tiny` (number of domains: {row['domains']}, with 120 passages each).",
            "The",
            f"embedder was distilled from {row['questions']} questions with answers but without relevance judgements,",
            "with",
            f"{row['passages']} passages each.",
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
        f"{facts['requests']} requests for {facts['new_tokens']} tokens each, to a Llama with 4 million random",
        "parameters",
        f"({facts['machine']}, threads: {facts['threads']}, with other work running), seconds:\n",
        "| model | prompts | sequential | concurrent | speed-up |",
        "|-|-|-|-|-|",
    ]
    for what, prompts, row in rows:
        times = f"{row['one_at_a_time_s']:.1f} | {row['at_once_s']:.1f}"
        lines.append(f"| {what} | {prompts} | {times} | {row['ratio']:.1f} |")
    lines.append("\nPrefilling a prompt takes the same computation in both cases, so long prompts gain less.")
    return "\n".join(lines)


def quality_table(facts: dict[str, Any]) -> str:
    sets = facts["quality"]
    lines = [f"| selector | {' | '.join(each['name'] for each in sets)} |", "|-" * (len(sets) + 1) + "|"]
    for place, row in enumerate(sets[0]["rows"]):
        cells = " | ".join(f"{each['rows'][place]['at_1']:.3f} / {each['rows'][place]['at_8']:.3f}" for each in sets)
        lines.append(f"| {row['selector'].replace('|', 'then')} | {cells} |")
    leaks = ", ".join(f"{each['leaked_test_rows']} of {each['test_rows']:,} ({each['name']})" for each in sets)
    lines.append(
        "\nTest rows that also appear in the pool, not excluded here to keep the results comparable with others: "
        f"{leaks}."
    )
    return "\n".join(lines)


def peers_table(facts: dict[str, Any]) -> str:
    """A line for each program, and a line for each pair that is compared."""
    programs = facts["programs"]
    lines = ["| program | training rows | accuracy | unreadable | CPU seconds | lines of code |", "|-" * 6 + "|"]
    for found in programs.values():
        low, high = found["interval"]
        lines.append(
            f"| {found['tool']} | {found['training_rows']} | {found['accuracy']:.3f} [{low:.2f}, {high:.2f}] | "
            f"{found['unreadable']} | {found['cpu_s']:.1f} | {found['lines']} |"
        )
    lines += ["\n| ragkit | other tool | difference in accuracy | p | equal answers | CPU time |", "|-" * 6 + "|"]
    for pair in facts["pairs"]:
        ours, peer = programs[pair["ours"]], programs[pair["peer"]]
        lines.append(
            f"| {ours['tool'].removeprefix('ragkit ')} | {peer['tool']} | {ours['accuracy'] - peer['accuracy']:+.3f} | "
            f"{pair['p']:.3f} | {pair['equal_answers']} of {facts['test_rows']} | {pair['cpu_ratio']:.2f} times |"
        )
    training = read_results("real_models/results/training.json")
    trl, ours, pool = training["trl"], training["ours"], programs["ragkit_score"]["training_rows"]
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("lm-eval", "setfit", "dspy"))
    lines += [
        f"\n{facts['test_rows']} test rows; prompts have {facts['k']} examples. Versions: {versions}. Each program ran",
        f"once, with one thread, on a machine with other work ({facts['processor']}, {facts['cores']} cores).",
        f"TRL is compared by its rate of training only: LoRA on the same {pool} rows processes",
        f"{trl['tokens_per_cpu_s']:.0f} tokens per CPU second with `SFTTrainer` and its defaults, and",
        f"{ours['tokens_per_cpu_s']:.0f} with `finetune` (`benchmarks/real_models/training.py`).",
    ]
    return "\n".join(lines)


def reliability_table(facts: dict[str, Any]) -> str:
    names = ("injected", "noticed", "recovered", "harmless", "lost", "wrong", "unexplained")
    lines = [
        f"{facts['minutes']:.0f} minutes, seed {facts['seed']}, {sum(facts['rounds'].values())} rounds:\n",
        f"| fault | {' | '.join(names[:5])} | silently wrong | unexplained |",
        "|-" * (len(names) + 1) + "|",
    ]
    rows = {**facts["faults"], "all": facts["totals"]}
    lines += [f"| {kind} | {' | '.join(f'{row[name]:,}' for name in names)} |" for kind, row in rows.items()]
    return "\n".join(lines)


def rag_table(facts: dict[str, dict[str, Any]]) -> str:
    """One row for each model and kind of answer."""
    lines = [
        "| model | answers | questions | F1, 95 % interval | refused | valid citations | answers with a citation |",
        "|-|-|-|-|-|-|-|",
    ]
    for model, entry in facts.items():
        for name, row in entry["summary"].items():
            kind, _, unanswerable = name.partition(", ")
            f1 = f"{row['f1']:.2f} [{row['f1_interval'][0]:.2f}, {row['f1_interval'][1]:.2f}]"
            valid = "none" if row["valid"] is None else f"{row['valid']:.0%} of {row['citations_of_the_model']}"
            author = "none" if kind == "extractive" else model
            kind += ", not in the passages" if unanswerable else ""
            lines.append(
                f"| {author} | {kind} | {row['questions']} | {'' if unanswerable else f1} | {row['refused']:.0%} | "
                f"{valid} | {row['answers_with_a_citation']:.0%} |"
            )
    return "\n".join(lines)


def plans_table(facts: dict[str, Any]) -> str:
    """Plans of a small model, next to direct answers."""
    found = facts["summary"]
    planning, cpu = found["planning_seconds"], found["planning_cpu_seconds"]

    def accuracy(kind: str) -> str:
        low, high = found[kind]["interval"]
        return f"{found[kind]['accuracy']:.2f} [{low:.2f}, {high:.2f}]"

    rows = {
        "accepted plans": f"{found['plans_accepted']} of {found['questions']}, "
        f"{found['plans_accepted_at_once']} of them without a correction",
        "time of planning": f"{planning['median']:.0f} s median, {planning['max']:.0f} s at most; "
        f"{cpu['median']:.0f} and {cpu['max']:.0f} CPU s",
        f"runs that ended within their budget of {found['budget_seconds']:.0f} s":
            f"{found['within_budget']} of {found['questions']}",
        "accuracy with plans": accuracy("pearl"),
        "accuracy of direct answers": accuracy("zero_shot"),
        "CPU seconds per question (median)": f"{found['cpu_seconds']['pearl']:.0f} with plans, "
        f"{found['cpu_seconds']['zero_shot']:.0f} direct",
    }  # fmt: skip
    return "| measurement | result |\n|-|-|\n" + "\n".join(f"| {name} | {text} |" for name, text in rows.items())


def extraction_table(facts: dict[str, Any]) -> str:
    """How many calls return records, and how many records are quoted from the source."""
    lines = [
        "| fields | calls with valid records | records whose quotation the passage contains | CPU s |", "|-|-|-|-|",
    ]  # fmt: skip
    kinds = {
        "quotation_beside_the_record": "with a quotation beside the record",
        "fields_are_quotations": "`quotes=True`",
    }
    for key, name in kinds.items():
        row = facts[key]
        calls, records = row["calls_with_valid_records"], row["records_quoted_from_the_source"]
        shares = " | ".join(f"{each['count']} of {each['of']}" for each in (calls, records))
        lines.append(f"| {name} | {shares} | {row['cpu_s']:.0f} |")
    return "\n".join(lines)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "demo": ("real_models/results/demo.json", demo_table),
    "trec6": ("real_models/results/trec6-*.json", real_models_table),
    "banking77": ("icl_vs_finetuned/results/banking77.json", results_table),
    "study": ("icl_vs_finetuned/results/trec6-smollm2.json", study_table),
    "cases": ("icl_vs_finetuned/results/*.json", cases_table),
    "harness": ("harness/results/harness.json", harness_table),
    "tiny": ("tiny/results/tiny.json", tiny_table),
    "selector-speed": ("selectors/results/selectors.json", speed_table),
    "selector-quality": ("selectors/results/selectors.json", quality_table),
    "index": ("index/results/index.json", index_table),
    "retrieval": ("retrieval/results/retrieval.json", retrieval_table),
    "retriever-training": ("retrieval/results/training.json", training_table),
    "models": ("models/results/models.json", models_table),
    "precision": ("real_models/results/precision.json", precision_table),
    "finetuning": ("finetuning/results/lora.json", finetuning_table),
    "peers": ("peers/results/peers.json", peers_table),
    "training-methods": ("finetuning/results/methods.json", training_methods_table),
    "pearl": ("pearl/results/pearl.json", pearl_table),
    "plans": ("rag_pearl/results/pearl.json", plans_table),
    "rag": ("rag_pearl/results/rag.json", rag_table),
    "extraction": ("rag_pearl/results/extraction.json", extraction_table),
    "serving": ("serving/results/serving.json", serving_table),
    "reliability": ("reliability/results/reliability.json", reliability_table),
    "statistics": ("statistics/results/statistics.json", statistics_table),
}


def read_results(path: str) -> dict[str, Any]:
    """Read a results file, or for a pattern a mapping from file name to content."""
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(HERE.glob(path))}
    if "*" in path:
        return found
    (facts,) = found.values()
    return dict(facts)


def _wrapped(text: str) -> str:
    """Wrap the paragraphs between the tables."""
    blocks = text.split("\n\n")
    return "\n\n".join(
        block if block.startswith("|") else fill(block, 118, break_long_words=False, break_on_hyphens=False)
        for block in blocks
    )


def updated(text: str) -> str:
    for name, (path, table) in TABLES.items():
        if f"<!-- {name} -->" in text:
            made = _wrapped(table(read_results(path)))
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
