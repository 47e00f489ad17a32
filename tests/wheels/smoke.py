"""What an installed wheel must do, in an environment without the checkout. Run by try_wheels.py, not by pytest."""

import asyncio  # a package named like a module of the standard library would break this
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import ragkit
import ragkit.langchain
from ragkit import Document, Example, FewShot, Index, JaccardSelector, compare, load_model, load_selector
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.datasets import support_requests


def command(*words: str) -> str:
    done = subprocess.run([Path(sys.executable).with_name("ragkit"), *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ragkit {' '.join(words)}: {done.stderr}"
    return done.stdout


def main() -> None:
    place = Path(ragkit.__file__).parent
    assert "site-packages" in place.parts, f"{place} is not the installed wheel"
    for module in (ragkit, ragkit.langchain):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert command("--version").strip() == version("ragkit-py") == ragkit.__version__
    assert "Example: ragkit ask" in command("ask", "--help")
    for file in ("tiny/weights/model.safetensors", "tiny/words.txt", "py.typed"):
        assert (place / file).is_file(), f"{file} is not in the wheel"
    assert len(support_requests().test) == 106

    pool = [Example("dim the lamp in the kitchen", "fade lamp, in zone: kitchen"),
            Example("open the window at noon", "vent window, at time: noon"),
            Example("mute the radio for anna", "hush radio, for owner: anna")]  # fmt: skip
    answer = FewShot(load_model("tiny"), JaccardSelector(pool), k=3).invoke("please dim the fan in the hall")
    assert answer.text == "fade fan, in zone: hall", answer.text
    for spec in ("bm25 | guard | label-nearest", "hybrid | mmr"):
        assert len(load_selector(spec, pool, embedder="minilm").select("dim the lamp", 2)) == 2

    with tempfile.TemporaryDirectory() as folder:
        with Index.create(Path(folder, "notes.rag"), embedder="hash:64") as index:
            index.add([Document("a lamp", id="a", metadata={"n": 1}), Document("a door", id="b")])
            assert index.search("lamp", k=2, where={"n": 1})[0].id == "a"
        assert json.loads(command("index", "verify", f"{folder}/notes.rag", "--json")) == {
            "documents": 2,
            "damaged": False,
        }
        from random import Random

        strategies = ["zero-shot", "few-shot:bm25", "lora"]
        result = compare(task_of(HOME, Random(0), pool=40, test=10), strategies, model="tiny", out=f"{folder}/run")
        assert {row.strategy for row in result.results.rows} == set(strategies)
        assert "<svg" in result.html()
        store = ragkit.langchain.RagkitVectorStore.from_texts(["a lamp", "a door"], "hash:64")
        assert asyncio.run(store.asimilarity_search("lamp", k=1))[0].page_content == "a lamp"
        from ragkit import load_documents
        from ragkit_pipelines.serving import Server

        Path(folder, "page.html").write_text("<h1>Lamps</h1><p>dim</p>", encoding="utf-8")
        assert "Lamps" in next(iter(load_documents(Path(folder, "page.html")))).text
        assert "tiny" in Server("tiny", port=0).models


if __name__ == "__main__":
    main()
    print("ok")
