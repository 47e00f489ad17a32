"""`LayeredModel` before a server that makes trouble, in processes that are killed, on disks that fill up."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from faults import DAMAGES, TROUBLES, killed, no_file_past
from openai_server import OpenAIServer
from tally import Tally

from ragkit import Budget, ScriptedModel, load_model
from ragkit.errors import BatchError, IntegrityError, InvalidInputError, RagkitError
from ragkit.models import AnswerCache, LayeredModel, Price, Prices, Retry
from ragkit.protocols import LanguageModel
from ragkit.records import Completion

PRICES = Prices({"openai:tiny": Price(input=1.0, output=1.0)})


def answer(prompt: str) -> str:
    """What the model behind says."""
    return f"answer to {prompt}"


def _asked_of(server: OpenAIServer, cache: Path, budget: Budget | None = None, timeout: float = 1.5) -> LanguageModel:
    os.environ["OPENAI_API_KEY"] = "none"
    retry = Retry(attempts=3, first_wait=0.001, longest_wait=0.01)
    return load_model("openai:tiny", base_url=server.url, retry=retry, prices=PRICES, budget=budget, cache=cache,
                      timeout=timeout, concurrency=16)  # fmt: skip


def http_faults(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Ask many prompts of a server that fails in all ways; right answers or errors, nothing paid twice or lost."""
    number, share = 200, float(rng.uniform(0.1, 0.5))
    weights = np.array([8.0] * (len(TROUBLES) - 1) + [1.0])
    lock, met = threading.Lock(), dict[str, list[str]]()

    def trouble(prompt: str) -> str | None:
        with lock:
            if rng.random() >= share:
                return None
            chosen = str(rng.choice(TROUBLES, p=weights / weights.sum()))
            met.setdefault(prompt, []).append(chosen)
            return chosen

    prompts = [f"question {place}" for place in range(number)]
    with OpenAIServer(ScriptedModel(answer)) as server:
        server.trouble = trouble
        budget = Budget(calls=int(number * rng.uniform(0.8, 1.5)), money=10.0)
        first = _results(_asked_of(server, folder / "answers.sqlite", budget), prompts)
        before = Counter(server.answered)
        server.trouble = None
        second = _results(_asked_of(server, folder / "answers.sqlite", timeout=60.0), prompts)
        if (budget.spent["calls"] or 0) > (budget.calls or 0):
            tally.count("models: budget under trouble", "wrong", f"{budget.spent} of {budget.calls}")
    for prompt, one, two in zip(prompts, first, second, strict=True):
        outcome = _outcome(prompt, one, two)
        if isinstance(one, Completion) and server.answered[prompt] != 1:
            outcome = "lost"  # paid for again
        elif before[prompt] > 1:
            outcome = "lost"
        for each in met.get(prompt, ()):
            tally.count(f"models: http {each}", outcome, f"{prompt}: {one!r} then {two!r}")
        if outcome in {"lost", "wrong", "unexplained"} and prompt not in met:
            tally.count("models: http, a prompt without trouble", outcome, f"{prompt}: {one!r} then {two!r}")


def _results(model: LanguageModel, prompts: list[str]) -> list[Completion | RagkitError]:
    try:
        return list(model.generate(prompts, max_tokens=20))
    except BatchError as error:
        return list(error.results)


def _outcome(prompt: str, one: Completion | RagkitError, two: Completion | RagkitError) -> str:
    if not isinstance(two, Completion) or (isinstance(one, RagkitError) and not str(one)):
        return "unexplained"
    if any(isinstance(each, Completion) and each.text != answer(prompt) for each in (one, two)):
        return "wrong"
    return "recovered" if isinstance(one, Completion) else "noticed"


def _logged(path: Path, prompt: str) -> str:
    """Answer, and note in a file that a process does not take with it that the model was asked."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{prompt}\n".encode())
    os.close(log)
    return answer(prompt)


def _generate_all(folder: Path, batches: list[list[str]], report: int) -> None:
    model = LayeredModel(_model(folder), cache=AnswerCache(folder / "answers.sqlite"), concurrency=4)
    for batch in batches:
        for prompt, found in zip(batch, model.generate(batch), strict=True):
            os.write(report, (json.dumps([prompt, found.text]) + "\n").encode())


def _model(folder: Path) -> ScriptedModel:
    return ScriptedModel(partial(_logged, folder / "asked"), name="logged")


def _times_asked(folder: Path) -> Counter[str]:
    return Counter((folder / "asked").read_text().splitlines()) if (folder / "asked").exists() else Counter()


def killed_client(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Kill a process that asks; what it had answered is in the cache, and only calls under way come twice."""
    prompts = [f"question {place}" for place in range(400)]
    batches = [prompts[start : start + 8] for start in range(0, len(prompts), 8)]
    finished: set[str] = set()
    for _ in range(12):
        before = _times_asked(folder)
        lines = killed(partial(_generate_all, folder, batches), float(rng.uniform(0.0, 0.1)))
        asked = _times_asked(folder) - before
        told = dict(json.loads(line) for line in lines)
        wrong = [prompt for prompt, text in told.items() if text != answer(prompt)]
        again = sorted(finished & set(asked))
        twice = [prompt for prompt, times in asked.items() if times > 1]
        outcome = "wrong" if wrong else "lost" if again or twice else "recovered"
        tally.count("models: process killed", outcome, f"wrong {wrong}, asked again {again}, twice {twice}")
        finished |= set(told)
    most = max(_times_asked(folder).values())
    if most > 13:
        tally.count("models: process killed", "lost", f"a prompt was asked {most} times")


def damaged_cache(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Change bytes of a closed cache; it is an error, or answers are right, asked again where need be."""
    prompts = [f"question {place}" for place in range(60)]
    path = folder / "answers.sqlite"
    cache = AnswerCache(path)
    expected = LayeredModel(ScriptedModel(answer), cache=cache).generate(prompts)
    cache.close()
    whole = path.read_bytes()
    for _ in range(60):
        for old in folder.iterdir():
            old.unlink()
        kind = str(rng.choice(list(DAMAGES)))
        path.write_bytes(DAMAGES[kind](whole, rng))
        outcome = "recovered"
        try:
            cache = AnswerCache(path)
        except RagkitError:
            tally.count(f"models: cache, {kind}", "noticed")
            continue
        model = ScriptedModel(answer)
        try:
            found = LayeredModel(model, cache=cache).generate(prompts)
            if not model.asked:
                outcome = "harmless"
            for one, two in zip(expected, found, strict=True):
                if (one.text, one.usage, one.cost) != (two.text, two.usage, two.cost):
                    outcome = "wrong"
        except (IntegrityError, BatchError):
            outcome = "noticed"
        cache.close()
        tally.count(f"models: cache, {kind}", outcome)


def full_disk(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Ask on a disk that fills up; what was answered is given back or kept, and kept answers stay."""
    prompts = [f"question {place} {'x' * 200}" for place in range(150)]
    with no_file_past(int(rng.integers(20_000, 90_000))):
        try:
            cache = AnswerCache(folder / "answers.sqlite")
        except InvalidInputError:  # there is not even room for its log
            tally.count("models: disk full", "noticed")
            return
        model = LayeredModel(ScriptedModel(answer), cache=cache, concurrency=[None, 4][int(rng.integers(2))])
        kept: dict[str, str] = {}
        outcomes = []
        told: list[warnings.WarningMessage] = []
        for start in range(0, len(prompts), 10):
            batch = prompts[start : start + 10]
            try:
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    found = model.generate(batch)
            except BatchError as error:
                found = [each for each in error.results if isinstance(each, Completion)]
                outcomes.append("noticed")
                kept |= {each.text.removeprefix("answer to "): each.text for each in found}
                continue
            except RagkitError:
                outcomes.append("noticed")
                continue
            outcomes += ["noticed"] * bool(told)
            kept |= {prompt: each.text for prompt, each in zip(batch, found, strict=True)}
        cache.close()
    lost = [prompt for prompt in prompts if prompt not in kept and prompt in model.model.asked]  # type: ignore[attr-defined]
    cache = AnswerCache(folder / "answers.sqlite")
    again = ScriptedModel(answer)
    texts = [each.text for each in LayeredModel(again, cache=cache).generate(prompts)]
    lost = [prompt for prompt in lost if prompt in again.asked]
    cache.close()
    if lost or texts != [answer(prompt) for prompt in prompts]:
        tally.count("models: disk full", "lost" if lost else "wrong", f"{len(lost)} answers paid for are nowhere")
    for outcome in outcomes or ["harmless"]:
        tally.count("models: disk full", outcome)
