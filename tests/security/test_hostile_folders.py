"""Values that somebody changed on purpose: the script that changes them, and the loaders that are quick."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from ragkit._files import with_checksum, without_checksum

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"


@pytest.fixture(scope="module")
def mutations():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("mutations")


def test_changed_files_keep_their_form_and_have_the_right_checksum(tmp_path, mutations):
    path, kept = tmp_path / "a.json", '{"a":[1,2,{"b":"c"}],"d":null}'
    changed = 0
    for seed in range(200):
        path.write_text(with_checksum(kept))
        mutations.mutate(path, Random(seed))
        inner = without_checksum(path.read_bytes())
        changed += inner is not None and inner.startswith(b"{") and inner.decode() != kept
    assert changed > 150


def test_digests_in_other_files_are_replaced(tmp_path, mutations):
    import hashlib

    old, new = b"old", b"new"
    (tmp_path / "list.json").write_text(with_checksum(json.dumps({"sha256": hashlib.sha256(old).hexdigest()})))
    mutations.make_checksums_anew(tmp_path, old, new)
    assert json.loads(without_checksum((tmp_path / "list.json").read_bytes())) == {
        "sha256": hashlib.sha256(new).hexdigest()
    }


def test_loaders_refuse_hostile_values(tmp_path):
    kinds = ["router", "replay file", "shards"]
    command = [sys.executable, FOLDER / "hostile_folders.py", "--minutes", "0.1", "--out", tmp_path / "out.json"]
    done = subprocess.run([*command, "--only", *kinds], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "out.json").read_text())["kinds"]
    assert all(counts[kind].get("refused", 0) + counts[kind].get("loaded", 0) > 0 for kind in kinds)
