"""`ragkit compare resume` shows what a folder names, and loads it only if the user agrees."""

import io
import json

import pytest
from command_line import run

ROWS = [{"input": f"{word} {n}", "output": label, "split": "test" if n % 3 == 0 else "train"}
        for word, label in (("card", "bank"), ("cake", "food")) for n in range(9)]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = run("compare", "--data", data, "--strategies", "majority", "--embedder", "hash:8", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (tmp_path / "out" / "results.json").unlink()
    return tmp_path / "out"


def test_without_a_terminal_the_list_has_to_be_confirmed_by_an_option(folder):
    refused = run("compare", "resume", folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert str(folder.parent / "rows.jsonl") in refused.stderr
    assert "--yes" in refused.stderr
    assert not (folder / "results.json").exists()
    assert run("compare", "resume", folder, "--yes").returncode == 0
    assert (folder / "results.json").exists()


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("y\n", 0)])
def test_on_a_terminal_the_list_is_confirmed_by_an_answer(folder, answer, code):
    done = run("compare", "resume", folder, stdin=Terminal(answer))
    assert done.returncode == code, done.stderr
    assert (folder / "results.json").exists() is (code == 0)
