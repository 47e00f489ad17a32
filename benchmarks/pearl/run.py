"""PEARL on the published plans: reading them, replaying recorded questions, waves, prompt caches, limits.

No figure needs a model's quality: models here repeat recorded values, sleep for a fixed time, or count what a
provider's prompt cache would hold. Needs the published plans (``RAGKIT_DATA``); results go to ``results/pearl.json``.
"""

from __future__ import annotations

import asyncio
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import mean, median
from time import perf_counter, process_time

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "helpers"))  # for the slips and the recorded questions, which the tests use too

from plan_slips import SLIPS  # noqa: E402
from random_llama import save_random_llama  # noqa: E402
from recorded_pearl import DOCUMENT, CountingModel, recorded  # noqa: E402

from ragkit import load_model  # noqa: E402
from ragkit.errors import PlanError  # noqa: E402
from ragkit.models._base import ModelBase  # noqa: E402
from ragkit.models._local import LocalModel  # noqa: E402
from ragkit.models._prompts import prompt_text  # noqa: E402
from ragkit.models._sampling import Sampling  # noqa: E402
from ragkit.pearl import ActionLibrary, Pearl, Plan, PlanExecutor  # noqa: E402
from ragkit.protocols import AnyPrompt  # noqa: E402
from ragkit.records import Completion  # noqa: E402
from ragkit_pipelines.pearl.plan.builtins import is_local  # noqa: E402

DATA = Path(os.environ.get("RAGKIT_DATA") or ROOT.parent / "shared/data")
VALUE = "word " * 115  # 144 tokens as the models here count them; recorded steps wrote 150 on average


def published() -> tuple[ActionLibrary, list[str]]:
    library = ActionLibrary.from_text((DATA / "pearl/actions.txt").read_text(encoding="utf-8"))
    lines = (DATA / "pearl/plans.jsonl").read_text(encoding="utf-8").splitlines()
    return library, [json.loads(line)["plan"] for line in lines]


def parsing(library: ActionLibrary, texts: list[str]) -> dict[str, object]:
    times = []
    for _ in range(7):
        started = process_time()  # of this process alone: others share the machine
        plans = [Plan.parse(text, library) for text in texts]
        times.append(1000 * (process_time() - started) / len(texts))
    odd = Counter(code for plan in plans for code in {each.code for each in plan.diagnostics})
    return {
        "plans": len(texts),
        "accepted": len(plans),
        "cpu_ms_a_plan": median(times),
        "written_back_to_the_byte": sum(p.render() == t for p, t in zip(plans, texts, strict=True)),
        "stable": sum(Plan.parse(p.render(), library) == p for p in plans),
        "warnings": dict(odd.most_common()),
        "slips": slips(library, plans),
    }


def slips(library: ActionLibrary, plans: list[Plan]) -> dict[str, object]:
    """How many of each of the 29 slips are read rightly, rejected, repaired, or misread."""
    table = {}
    for name, (slip, *_) in SLIPS.items():
        counts: Counter[str] = Counter()
        for made in filter(None, map(slip, plans)):
            for way in ("strict", "repair"):
                try:
                    read = Plan.parse(made[0], library, repair=way == "repair")
                except PlanError:
                    counts[f"{way}: rejected"] += 1
                    continue
                mended = any(each.level == "repair" for each in read.diagnostics)
                counts[f"{way}: {'misread' if read != made[1] else 'repaired' if mended else 'right'}"] += 1
        table[name] = dict(counts)
    misread = sum(count for row in table.values() for kind, count in row.items() if kind.endswith("misread"))
    return {"classes": len(table), "misread": misread, "table": table}


def replaying() -> dict[str, object]:
    rows = recorded(DATA)
    equal = dict.fromkeys(("concurrency 1", "concurrency 8"), 0)
    boundaries = repeated = resumed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(rows):
            answers = row.answers()
            for concurrency in (1, 8):
                run = Pearl(CountingModel(answers.__getitem__), executor=PlanExecutor(concurrency=concurrency)).invoke(
                    row.question, DOCUMENT, plan=row.plan
                )
                equal[f"concurrency {concurrency}"] += run.answer == row.answer and run.values == row.outputs
            path = Path(folder) / f"{number}.jsonl"
            whole = CountingModel(answers.__getitem__)
            Pearl(whole).invoke(row.question, DOCUMENT, plan=row.plan, trace=path)
            lines = path.read_bytes().splitlines(keepends=True)
            for kept in range(3, len(lines) + 1):
                path.write_bytes(b"".join(lines[:kept]))
                held = sum(json.loads(line)["event"] == "call" for line in lines[:kept])
                model = CountingModel(answers.__getitem__)
                run = Pearl(model).resume(path)
                boundaries += 1
                resumed += run.answer == row.answer
                repeated += len(model.asked) - (len(whole.asked) - held)
    return {"questions": len(rows), "byte_equal": equal, "kills": boundaries, "resumed_equal": resumed,
            "calls_repeated": repeated}  # fmt: skip


def model_steps(plan: Plan) -> int:
    return sum(not is_local(step.action) for step in plan.steps)


def waves(plans: list[Plan], seconds: float) -> dict[str, object]:
    """Wall time with a model that takes the same time for every call, beside the critical path and one by one."""
    model = CountingModel(lambda _: "x", seconds=seconds)
    pearl = Pearl(model, executor=PlanExecutor(concurrency=8))
    over, speedup, most = [], [], 0
    for plan in plans:
        model.most_at_once = 0
        runs = [pearl.invoke("?", "text", plan=plan) for _ in range(3)]
        assert {run.status for run in runs} == {"done"}
        took = median(run.seconds for run in runs)
        over.append(took / (plan.critical_path * seconds))
        speedup.append(model_steps(plan) * seconds / took)
        most = max(most, model.most_at_once)
    return {
        "latency_ms": 1000 * seconds,
        "wall_over_critical_path": {"mean": mean(over), "median": median(over), "max": max(over)},
        "speedup_over_serial": {"mean": mean(speedup), "median": median(speedup), "max": max(speedup)},
        "possible_mean": mean(model_steps(plan) / plan.critical_path for plan in plans),
        "most_at_once": most,
    }


def tokens(library: ActionLibrary, texts: list[str]) -> dict[str, object]:
    """Tokens that a provider has to read anew, with and without what the prompts share."""
    article = json.loads((DATA / "longdoc/quality_sample.jsonl").read_text(encoding="utf-8").splitlines()[0])["article"]
    turn = {f"Question: question {n}?\n\n": text for n, text in enumerate(texts)}

    def answer(prompt: str) -> str:
        end = prompt[prompt.rfind("Question: ") :]
        return turn.get(end, VALUE)

    by_way = {}
    for way, warm in (("cold", None), ("warmed", 1024)):
        model = CountingModel(answer, seconds=0.002)
        pearl = Pearl(model, library=library, executor=PlanExecutor(concurrency=8, warm_tokens=warm))
        # A document of its own for each question: nothing is shared between questions but the planner's prompt.
        runs = pearl.batch(
            [f"question {n}?" for n in range(len(texts))], [f"{n}\n{article}" for n in range(len(texts))]
        )
        assert {run.status for run in runs} == {"done"}
        read = [run.usage.prompt_tokens - run.usage.cached_tokens for run in runs]
        by_way[way] = {"read_anew_a_question": mean(read), "read_a_question": mean(r.usage.prompt_tokens for r in runs)}
        if way == "warmed":
            reading = Counter(prefix for prefix in model.prefixes if article in prefix)
            planning = [prefix for prefix in model.prefixes if prefix.startswith("Questions about")]
            assert len(reading) == sum(any(step.reads_document for step in run.plan.steps) for run in runs if run.plan)
            by_way[way] |= {
                "prefixes_a_document": len(reading) / len(texts),
                "prefixes_of_the_planner": len(set(planning)),
            }
            by_way[way]["documents_read_anew_a_question"] = prefills(model, article) / len(texts)
    serial = by_way["cold"]["read_a_question"]  # every call reads all of its prompt; warming is no part of that
    return {
        "questions": len(texts),
        "document_tokens": CountingModel(answer).count_tokens(article),
        "ways": by_way,
        "left_of_serial_uncached": by_way["warmed"]["read_anew_a_question"] / serial,
        "left_without_warming": by_way["cold"]["read_anew_a_question"] / serial,
    }


def prefills(model: CountingModel, article: str) -> int:
    """How often a document was read anew: the calls on its prefix that found it in no cache."""
    return sum(article in prefix and not cached for prefix, cached in zip(model.prefixes, model.found, strict=True))


def limits() -> dict[str, object]:
    plan = recorded(DATA)[0].plan
    model = CountingModel(lambda _: "x", seconds=0.001)
    pearl = Pearl(model, executor=PlanExecutor(concurrency=6))

    async def ask() -> list[object]:
        return await asyncio.gather(*(pearl.ainvoke(f"q {n}?", f"text {n}", plan=plan) for n in range(1000)))

    started = perf_counter()
    runs = asyncio.run(ask())
    return {"questions": len(runs), "limit": 6, "most_at_once": model.most_at_once, "calls": len(model.asked),
            "seconds": perf_counter() - started}  # fmt: skip


class Forgetful(ModelBase):
    """A local model that reads every prompt from its beginning, one by one."""

    name = fingerprint = "forgetful"

    def __init__(self, model: LocalModel) -> None:
        self.model = model

    def count_tokens(self, text: str) -> int:
        return self.model.count_tokens(text)

    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return [self.model.generate(prompt_text(prompt), **sampling.options()) for prompt in prompts]


def local() -> dict[str, object]:
    """Six steps on one document of 4,000 tokens, on a random Llama of 20M parameters: with and without reuse."""
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6}
    steps = "\n".join(f'{n}. v{n} = ABOUT(CTX, "part {n}") : Gather part {n}' for n in range(1, 7))
    plan = Plan.parse(f"New actions:\n- None\n\n{steps}", ActionLibrary.default())
    executor = PlanExecutor(max_tokens=16)
    times: dict[str, list[float]] = {"apart": [], "shared": []}
    with tempfile.TemporaryDirectory() as folder:
        spec = save_random_llama(
            Path(folder), num_key_value_heads=6, max_position_embeddings=8192, initializer_range=0.1, **sizes
        )
        model = load_model(spec)
        assert isinstance(model, LocalModel)
        model.tokenizer.model_max_length = 8192
        rng = Random(0)
        document = "".join(model.tokenizer.decode([rng.randrange(300, 900)]) for _ in range(4000))
        values = {}
        for _ in range(3):
            for way, asked in (("apart", Forgetful(model)), ("shared", model)):
                model.prefixes.clear()
                started = process_time()
                values[way] = Pearl(asked, executor=executor).invoke("?", document, plan=plan).values
                times[way].append(process_time() - started)
    apart, shared = median(times["apart"]), median(times["shared"])
    return {"parameters": model.module.num_parameters(), "document_tokens": model.count_tokens(document), "steps": 6,
            "apart_cpu_s": apart, "shared_cpu_s": shared, "ratio": apart / shared,
            "same_text": values["apart"] == values["shared"]}  # fmt: skip


def main() -> None:
    library, texts = published()
    plans = [Plan.parse(text, library) for text in texts]
    facts = {
        "machine": {"python": platform.python_version(), "processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count()},
        "parse": parsing(library, texts),
        "replay": replaying(),
        "waves": waves(plans, seconds=0.1),
        "tokens": tokens(library, texts),
        "limits": limits(),
        "local": local(),
    }  # fmt: skip
    out = Path(__file__).parent / "results/pearl.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shown = {name: {k: v for k, v in part.items() if k != "slips"} for name, part in facts.items()}
    print(json.dumps(shown, indent=1))
    print(facts["parse"]["slips"]["classes"], "slips,", facts["parse"]["slips"]["misread"], "misread")


if __name__ == "__main__":
    main()
