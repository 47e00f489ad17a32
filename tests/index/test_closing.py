"""An index that is closed while threads use it: they are told so, and nothing crashes."""

import subprocess
import sys

import pytest

from ragkit import Index
from ragkit.index._store import Store

SCRIPT = """
import sys, threading
from ragkit import Index
from ragkit.errors import InvalidInputError

index = Index.create(sys.argv[1], embedder="hash:32")
index.add([f"text {n} w{n % 7}" for n in range(200)])
reader = Index.open(sys.argv[1], read_only=True)
told = []

def until_told(*steps):
    try:
        while True:
            for step in steps:
                step()
    except InvalidInputError as error:
        told.append("is closed" in str(error))

def change(): index.delete(index.add([f"new {n}" for n in range(20)]))
def read(which): return lambda: (which.search("text 5 w3", 3), which.get(["x"]), which.stats(), which.keys())
work = [(change, index.compact), (change,), *[(read(which),) for which in (index, index, reader, reader)]]
threads = [threading.Thread(target=until_told, args=steps) for steps in work]
for thread in threads:
    thread.start()
threads[0].join(float(sys.argv[2]))
index.close()
reader.close()
for thread in threads:
    thread.join(30)
assert told == [True] * len(work), told
with Index.open(sys.argv[1], verify=True) as again:
    assert len(again) >= 200
"""


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
def test_closing_beside_readers_and_writers(tmp_path, seconds):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, tmp_path / "i", str(seconds)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_index_that_lives_until_the_interpreter_ends(tmp_path):
    """It is closed after the modules it needs: nothing is printed."""
    script = "import os, sys; from ragkit import Index; os.kept = Index.create(sys.argv[1], embedder='hash:32')"
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "i"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    with Index.open(tmp_path / "i") as index:
        assert len(index) == 0


def test_files_that_another_process_compacts_away_meanwhile_are_looked_for_again(tmp_path, monkeypatch):
    with Index.create(tmp_path / "i", embedder="hash:32") as index:
        index.add(["dim the lamp"])
        with Index.open(tmp_path / "i", read_only=True) as reader:
            index.add(["open the door"])
            load, calls = Store._loaded, []

            def gone_once(store):
                calls.append(store)
                if len(calls) == 1:
                    raise FileNotFoundError("vectors-0.bin")
                return load(store)

            monkeypatch.setattr(Store, "_loaded", gone_once)
            reader.refresh()
            assert [hit.text for hit in reader.search("open the door", k=1)] == ["open the door"]
            assert len(calls) == 2
