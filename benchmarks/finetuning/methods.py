"""Every training method once on a real model: whether it works, how accurate it is, and what it costs.

    python benchmarks/finetuning/methods.py                     all methods that have no result yet
    python benchmarks/finetuning/methods.py lora preference     some of them
    python benchmarks/finetuning/methods.py --again lora        measure again

SmolLM2 (135M parameters) is trained on a few rows of the support requests that ship with ragkit, and scored on the same
test rows for every method. The pool is small, so the scores show that a method works, not which one is best. Each
method runs in a process of its own. Its result is added to ``results/methods.json`` as soon as it is finished, and
computed again only if the settings have changed.

``preference`` and ``serve`` use the adapters of ``lora`` and ``rslora`` from ``--work``, whatever their settings, and
train them if they are missing; this is not counted. ``imitation`` needs the package of Gemma 3 270M.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "real_models"))  # whose run.py is imported, not the one here
sys.path.append(str(Path(__file__).parents[2] / "tests/helpers"))  # for the scripted vendor, which the tests use too

import openai  # noqa: TID253
from run import processor
from vendor_server import Vendor

from ragkit import FewShot, Task, finetune, load_model
from ragkit.comparison import support_requests
from ragkit.errors import RagkitError
from ragkit.finetuning import FineTuned, estimate_finetuning, imitate, mix
from ragkit.protocols import LanguageModel
from ragkit.records import Preference
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.compare.statistics.tests import wilson

RESULTS = Path(__file__).parent / "results/methods.json"


@dataclass(frozen=True)
class Settings:
    """What the result of a method depends on."""

    model: str = "smollm2"
    teacher: str = "gemma3-270m"
    encoder: str = "minilm"
    rows: int = 48
    test: int = 40
    epochs: int = 3
    seed: int = 0


@dataclass
class Run:
    """A run of one method: its task, its folder, and what it has used so far."""

    settings: Settings
    folder: Path
    tokens: int = 0
    training_cpu_s: float = 0.0
    uncounted_cpu_s: float = 0.0  # for the models of other methods
    scores: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        whole = support_requests()
        test = Random(self.settings.seed).sample(list(whole.test), self.settings.test)
        return replace(whole, examples=whole.draw(self.settings.rows, self.settings.seed), test=test)

    def other(self, method: str) -> Run:
        """Return the finished run of another method, which is run first if it is missing."""
        started, run = process_time(), Run(self.settings, self.folder.parent / method)
        if not run.answers.is_file():
            METHODS[method](run)
        self.uncounted_cpu_s += process_time() - started
        return run

    @property
    def model(self) -> str:
        return f"hf:{self.folder / 'model'}"

    @property
    def answers(self) -> Path:
        return self.folder / "answers.json"

    def train(self, model: Any, rows: Sequence[Any], name: str = "model", **settings: Any) -> FineTuned:
        started, task = process_time(), self.task
        given = {"epochs": self.settings.epochs, "seed": self.settings.seed, **settings}
        if settings.get("objective") != "text":
            given.setdefault("template", task.template)
        tuned = finetune(model, rows, output_dir=self.folder / name, **given)
        self.training_cpu_s += process_time() - started
        self.tokens += tuned.manifest.tokens
        return tuned

    def score(self, model: LanguageModel, task: Task | None = None, what: str = "") -> list[str]:
        """Answer the test rows, note the score, and return the answers."""
        task = task or self.task
        answers = FewShot.from_task(task, model, None).batch([row.input for row in task.test])
        return self.judge([answer.text for answer in answers], task, what)

    def judge(self, answers: list[str], task: Task, what: str = "") -> list[str]:
        n, right = len(answers), sum(task.score_all(answers))
        self.scores.append({"of": what or task.name, "n": n, "score": right / n, "interval": wilson(right, n)})
        self.folder.mkdir(parents=True, exist_ok=True)
        self.answers.write_text(json.dumps(answers), encoding="utf-8")
        return answers


def untrained(run: Run) -> None:
    run.score(load_model(run.settings.model))


def trained(run: Run, **settings: Any) -> FineTuned:
    return run.train(run.settings.model, run.task.examples, **settings)


def lora(run: Run) -> None:
    run.score(trained(run, method="lora").model)


def rslora(run: Run) -> None:
    run.score(trained(run, method="rslora").model)


def qlora(run: Run) -> None:
    run.score(trained(run, method="qlora").model)


def full(run: Run) -> None:
    run.score(trained(run, method="full").model)


def last_layers(run: Run) -> None:
    run.score(trained(run, method="last-layers").model)


def prompt_tuning(run: Run) -> None:
    run.score(trained(run, method="prompt-tuning").model)


def text(run: Run) -> None:
    """Continue pre-training on messages without labels, then train on the labelled ones."""
    messages = [row.text() for row in support_requests().examples[:96]]
    adapted = run.train(run.settings.model, messages, "adapted", objective="text", epochs=1)
    run.facts = {"messages": len(messages), "loss": adapted.manifest.loss}
    run.score(run.train(adapted.model, run.task.examples).model)


def preference(run: Run) -> None:
    """Prefer the correct team to the wrong one that the model trained with LoRA finds most probable, for a few rows."""
    first, task = load_model(run.other("lora").model), run.task
    template, labels, rows = task.template.for_model(first), list(task.labels or ()), task.examples[:8]
    prompts = [template.prompt([], row.input) for row in rows]
    scores = first.score(prompts, [template.render_answer(label) for label in labels])
    for place, row in enumerate(rows):
        scores[place, labels.index(row.output)] = float("-inf")
    wrong = [labels[place] for place in scores.argmax(axis=1)]
    pairs = [Preference(row.input, row.output, other) for row, other in zip(rows, wrong, strict=True)]
    run.facts = {"pairs": len(pairs)}
    run.score(run.train(first, pairs, objective="preference", epochs=1).model)


def mixture(run: Run) -> None:
    """Train one adapter on the support requests and on device commands, each with its own template."""
    calls = task_of(HOME, Random(0), pool=run.settings.rows, test=run.settings.test, name="device commands")
    rows = mix({run.task.name: run.task, calls.name: calls}, seed=run.settings.seed)
    tuned = run.train(run.settings.model, rows)
    run.score(tuned.model)
    run.score(tuned.model, calls)


def imitation(run: Run) -> None:
    """Train on the answers of a teacher, which sees one labelled example of each team, instead of on the labels."""
    task = run.task
    shown = list({row.output: row for row in task.examples}.values())
    rest = [row for row in task.examples if row not in shown]
    inputs = [row.input for row in rest]
    started = process_time()
    taught = imitate(run.settings.teacher, inputs, template=task.template, examples=shown)
    correct = {row.input: row.output for row in rest}
    right = sum(row.output == correct[row.input] for row in taught.examples)
    run.facts = {
        "teacher": run.settings.teacher,
        "teacher_cpu_s": process_time() - started,
        "answers": len(taught.examples),
        "correct_answers": right,
    }
    run.score(run.train(run.settings.model, [*shown, *taught.examples]).model)


def serve(run: Run) -> None:
    """Serve two adapters over one base model with ``ragkit serve``, and compare answers over HTTP with local ones."""
    adapters = {method: run.other(method) for method in ("lora", "rslora")}
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "serve", "--base", run.settings.model, "--port", "0"]
    command += [
        part for method, each in adapters.items() for part in ("--adapter", f"{method}={each.folder / 'model'}")
    ]
    started = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().split()[-1]
            run.facts["start_s"] = perf_counter() - started
            for method, each in adapters.items():
                local = json.loads(each.answers.read_text(encoding="utf-8"))
                answers = run.judge(answers_over_http(url, method, run.task), run.task, method)
                run.facts[f"{method}_same_answers"] = sum(a == b for a, b in zip(answers, local, strict=True))
            run.facts["server_peak_memory_gb"] = peak_gb(server.pid)
        finally:
            server.terminate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    run.facts["server_cpu_s"] = used.ru_utime + used.ru_stime


def answers_over_http(url: str, model: str, task: Task) -> list[str]:
    """Answer the test rows with the labels as choices. `load_model` would send them as a schema of a JSON object."""
    client, template = openai.OpenAI(base_url=url, api_key="none"), replace(task.template, form="chat")
    choices = {"guided_choice": [template.render_answer(label) for label in template.labels]}
    answers = []
    for row in task.test:
        chat = template.prompt([], row.input).chat
        assert chat is not None
        messages: Any = [{"role": turn.role, "content": turn.content} for turn in chat.messages]
        reply = client.chat.completions.create(model=model, messages=messages, extra_body=choices)
        answers.append((reply.choices[0].message.content or "").strip())
    return answers


def vendor(run: Run) -> None:
    """Train at a scripted vendor over HTTP, which checks the protocol; the vendor's answers are invented."""
    task, os.environ["OPENAI_API_KEY"] = run.task, "none"
    with Vendor() as server:
        base = load_model("openai:small", base_url=server.url)
        estimate = estimate_finetuning(base, task.examples, epochs=run.settings.epochs, template=task.template)
        tuned = run.train(base, task.examples, method="api")
        uploaded = [row["messages"][-1]["content"] for row in server.rows("training_file")]
        answers = [tuned.model.generate(row.text()).text for row in task.test]
        run.facts = {
            "uploaded_rows": sum(a == row.output for a, row in zip(uploaded, task.examples, strict=True)),
            "answers_of_the_tuned_model": sum(answer.startswith("ft:small:") for answer in answers),
            "requests": len(server.calls),
        }
        run.tokens = estimate.tokens


def classifier(run: Run, method: str) -> None:
    """Train an encoder to classify the messages."""
    task = run.task
    given: dict[str, Any] = {"template": None, "method": method}
    tuned: Any = run.train(run.settings.encoder, task.examples, **given)
    labels = list(tuned.manifest.labels)
    best = tuned.model.score([row.text() for row in task.test], labels).argmax(axis=1)
    run.judge([labels[place] for place in best], task)


def classifier_head(run: Run) -> None:
    classifier(run, "classifier-head")


def encoder_lora(run: Run) -> None:
    classifier(run, "lora")


def encoder_full(run: Run) -> None:
    classifier(run, "full")


METHODS: dict[str, Callable[[Run], None]] = {
    "untrained": untrained,
    "lora": lora,
    "rslora": rslora,
    "qlora": qlora,
    "full": full,
    "last-layers": last_layers,
    "prompt-tuning": prompt_tuning,
    "text": text,
    "preference": preference,
    "mixture": mixture,
    "imitation": imitation,
    "serve": serve,
    "vendor": vendor,
    "classifier-head": classifier_head,
    "encoder-lora": encoder_lora,
    "encoder-full": encoder_full,
}


def peak_gb(process: int | str = "self") -> float:
    """Return the peak memory of a process. `resource` would count the parent's memory before a child was started."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20  # type: ignore[index]


def measured(method: str, settings: Settings, work: Path) -> dict[str, Any]:
    """Run a method from the beginning."""
    run = Run(settings, work / method)
    shutil.rmtree(run.folder, ignore_errors=True)
    wall, cpu, error = perf_counter(), process_time(), None
    try:
        METHODS[method](run)
    except RagkitError as caught:
        error = str(caught)
    return {
        "settings": asdict(settings),
        "error": error,
        "scores": run.scores,
        "tokens": run.tokens,
        "training_cpu_s": run.training_cpu_s,
        "cpu_s": process_time() - cpu - run.uncounted_cpu_s,
        "wall_s": perf_counter() - wall,
        "peak_memory_gb": peak_gb(),
        "load": os.getloadavg()[0],
        "processor": processor(),
        "facts": run.facts,
    }


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help=f"some of {', '.join(METHODS)}; all by default")
    parser.add_argument("--again", action="store_true", help="measure methods again that have a result")
    parser.add_argument("--work", type=Path, default=Path("runs/methods"), help="folder of the trained models")
    parser.add_argument("--rows", type=int, default=Settings.rows, help="number of training rows")
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="passes over the training rows")
    given = parser.parse_args()
    settings = Settings(rows=given.rows, epochs=given.epochs)
    if unknown := set(given.methods) - set(METHODS):
        parser.error(f"unknown methods {sorted(unknown)}; choose from {', '.join(METHODS)}")
    facts = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "transformers", "trl"])  # imported once, and in no method's time
    for method in given.methods or METHODS:
        if not given.again and facts.get(method, {}).get("settings") == asdict(settings):
            print(f"{method}: has a result for these settings")
            continue
        with ProcessPoolExecutor(1, mp_context=processes) as pool:
            facts[method] = rounded(pool.submit(measured, method, settings, given.work).result())
        ordered = {name: facts[name] for name in METHODS if name in facts}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        print(
            method, json.dumps({name: value for name, value in facts[method].items() if name != "settings"}), flush=True
        )


if __name__ == "__main__":
    main()
