"""What untrusted files cannot do, and that the threat model names tests that exist."""

import ast
import importlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from ragkit import load_embedder, load_model
from ragkit.errors import InvalidInputError, RagkitError
from ragkit.tiny import WEIGHTS

ROOT = Path(__file__).parents[2]
PACKAGES = ("ragkit", "selectors/ragkit_selectors", "pipelines/ragkit_pipelines")
RUNNING = {"eval", "exec", "compile", "__import__"}
UNPICKLING = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def test_no_module_runs_text_or_reads_pickles():
    found = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNING:
                found.add((path.name, node.func.id))
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(path.name, name) for name in names if name.split(".")[0] in UNPICKLING}
            if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code", "shell"}:
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
    assert found == {("docstore_pickle.py", "pickle")}  # the restricted reader of LangChain's folders


class Trap:
    def __reduce__(self):  # noqa: ANN204
        return os.mkdir, (os.environ["RAGKIT_TRAP"],)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder that is made when code of an untrusted file runs."""
    monkeypatch.setenv("RAGKIT_TRAP", str(tmp_path / "sprung"))
    return tmp_path / "sprung"


CODE = "import os\nos.mkdir(os.environ['RAGKIT_TRAP'])\n"


@pytest.mark.parametrize(
    "load", [lambda folder: load_model(f"hf:{folder}"), lambda folder: load_embedder(f"st:{folder}").dim]
)
def test_code_in_a_model_folder_is_not_run(tmp_path, trap, load):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "modeling_own.py").write_text(CODE)
    own = {
        "AutoConfig": "modeling_own.Own",
        "AutoModel": "modeling_own.Own",
        "AutoModelForCausalLM": "modeling_own.Own",
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": own}))
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "modeling_own.Own"}]))
    with pytest.raises((RagkitError, OSError, ValueError, ImportError)):
        load(folder)
    assert not trap.exists()


def test_pickled_weights_run_nothing(tmp_path, trap):
    import pickle  # noqa: TID251 - to make what must not be read

    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((Path(WEIGHTS) / name).read_bytes())
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Trap()}, protocol=2))
    with pytest.raises(RagkitError):
        load_model(f"hf:{folder}")
    assert not trap.exists()


def test_damaged_weights_are_an_error(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(WEIGHTS).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for damage in (b"", b"\xff" * 100, (folder / "model.safetensors").read_bytes()[:-100]):
        (folder / "model.safetensors").write_bytes(damage)
        with pytest.raises(RagkitError):
            load_model(f"hf:{folder}")


def test_a_tokenizer_that_panics_is_an_error(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "missing", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InvalidInputError, match="tokenizer"):
        load_model(f"hf:{folder}").generate("a text", max_tokens=1)


def test_the_threat_model_names_tests_that_exist():
    text = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 20
    for path, name in named:
        code = (ROOT / path).read_text()
        assert not name or f"def {name}(" in code, f"{path}::{name}"


def test_the_threat_model_names_attacks_that_exist():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks/reliability"))
        patch.syspath_prepend(str(ROOT / "benchmarks/reliability/attacks"))
        script = importlib.import_module("attack")
        names = {f"{area}-{attack.name}" for area in script.AREAS for attack in script.attacks_of(area)}
    text = (ROOT / "docs/security.md").read_text()
    named = {" ".join(name.split()) for name in re.findall(rf"`((?:{'|'.join(script.AREAS)})-[^`]+)`", text)}
    assert len(named) > 50
    assert named <= names
