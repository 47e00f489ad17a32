"""``ragkit.toml``: every command reads its defaults from it, and the command line takes precedence."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer
from command_line import run
from openai_server import OpenAIServer

from ragkit.models import load_model
from ragkit_pipelines.cli.init import TEMPLATE
from ragkit_pipelines.cli.main import app
from ragkit_pipelines.cli.settings_file import LISTS, SettingsFile

ROWS = [
    {"input": f"{what} {n}", "output": label, "split": "test" if n % 3 == 0 else "train"}
    for what, label in (("lost card", "bank"), ("apple cake", "food"))
    for n in range(6)
]
BASIC = 'data = "rows.jsonl"\nembedder = "hash:8"\n[compare]\nstrategies = ["majority", "vote:bm25"]\nout = "out"\n'


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with rows, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGKIT_CONFIG", raising=False)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return tmp_path


def settings(text, path="ragkit.toml"):
    Path(path).write_text(text, encoding="utf-8")


def request(out="out"):
    return json.loads(json.loads(Path(out, "run.json").read_bytes())["request"])


def refused(*arguments):
    before = sorted(Path().rglob("*"))
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert sorted(Path().rglob("*")) == before
    return done.stderr


def test_a_command_takes_its_defaults_from_the_file_and_says_so():
    settings(BASIC)
    done = run("compare", "--json")
    assert [row["strategy"] for row in json.loads(done.stdout)["rows"]] == ["majority", "vote:bm25"]
    assert done.stderr.startswith("settings from ragkit.toml: data, strategies, embedder, out\n")
    assert request()["embedder"] == "hash:8"


def test_the_command_line_takes_precedence_over_the_command_and_this_over_the_top():
    settings("near = 0.1\nshow = 0\n[data]\nshow = 2\n[data.check]\nnear = 0.5\n")
    file = SettingsFile.find(None)
    commands = tree()
    assert file.defaults(["data", "check"], commands) == {"near": 0.5, "show": 2}
    assert file.defaults(["pool", "check"], commands) == {"near": 0.1, "show": 0}
    settings("[compare]\nsizes = 4\nseeds = [0, 1]\nlimit = 3\n")
    done = run("compare", "--data", "rows.jsonl", "--embedder", "hash:8", "--strategies", "majority", "--limit", 2,
               "-o", "out", "--json")  # fmt: skip
    assert [(row["size"], row["seed"], row["n"]) for row in json.loads(done.stdout)["rows"]] == [(4, 0, 2), (4, 1, 2)]
    assert "settings from ragkit.toml: sizes, seeds\n" in done.stderr


def tree():
    from ragkit_pipelines.cli.configured import command_tree

    return command_tree(typer.main.get_command(app))


def test_other_commands_report_nothing():
    settings(BASIC)
    assert run("compare", "--json").returncode == 0
    shown = run("compare", "show", "out", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert run("components", "stage").stderr == ""
    settings("[compare]\nunknown = 1\n")
    assert run("compare", "--help").returncode == run("--version").returncode == run("--help").returncode == 0


def test_flags_numbers_lists_and_required_options():
    settings('[select]\npool = "rows.jsonl"\nk = 1\nexplain = true\n\n[generate]\nmodel = "tiny"\nstop = ["e", "a"]\n')
    done = run("select", "--query", "lost card")
    assert (done.stdout.count("lost card"), "jaccard" in done.stdout or "why" in done.stdout) == (1, True)
    assert done.stderr == "settings from ragkit.toml: pool, k, explain\n"
    generated = run("generate", "Input: dim the lamp\nOutput:")
    assert not set("ea") & set(generated.stdout)
    settings('[generate]\nmodel = "tiny"\nstop = "e"\n')
    assert "e" not in run("generate", "Input: dim the lamp\nOutput:").stdout


def test_another_file_whose_paths_are_relative_to_it(project, monkeypatch):
    Path("other").mkdir()
    Path("rows.jsonl").rename("other/rows.jsonl")
    settings(BASIC, "other/mine.toml")
    for arguments in (["--config", "other/mine.toml"], []):
        done = run("compare", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("settings from other/mine.toml: ")
        assert Path("other/out/results.json").is_file()
        monkeypatch.setenv("RAGKIT_CONFIG", "other/mine.toml")
    Path("other/model").mkdir()
    settings('model = "hf:model"\nembedder = "st:nowhere"\n', "other/mine.toml")
    found = SettingsFile.find(None).defaults(["compare"], tree())
    assert found == {"model": "hf:other/model", "embedder": "st:nowhere"}
    settings("embedder = 1\n")  # of the current folder: not read
    assert found == SettingsFile.find(None).defaults(["compare"], tree())
    assert run("components", "stage", "--config", "/dev/null").stderr == ""


def test_the_server_of_the_file_is_that_of_its_model(monkeypatch):
    monkeypatch.setenv("MY_KEY", "a-key-of-my-server")
    with OpenAIServer(load_model("tiny")) as server:
        settings(f'model = "openai:x"\nbase-url = "{server.url}"\napi-key-env = "MY_KEY"\n')
        done = run("generate", "hello", "--max-tokens", 1)
        assert done.returncode == 0, done.stderr
        assert (len(server.requests), server.keys) == (1, ["Bearer a-key-of-my-server"])
        local = run("generate", "hello", "--max-tokens", 1, "-m", "tiny")
        assert (local.returncode, local.stderr, len(server.requests)) == (0, "", 1)
        other = run("generate", "hello", "--max-tokens", 1, "-m", "openai:y")
        assert (other.returncode, len(server.requests)) == (0, 2)
    assert "`base_url` goes with" in refused("generate", "hello", "-m", "tiny", "--base-url", "http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('embedder = "hash:8"\nmodle = "tiny"\n', 2, "unknown key `modle`. Did you mean `model`?"),
        ('base_url = "http://x"\n', 1, "Did you mean `base-url`?"),
        ('# mine\n[compare]\nstrategy = "majority"\n', 3, "Did you mean `strategies`?"),
        ("[comapre]\nk = 1\n", 1, "unknown key `comapre`. Did you mean `compare`?"),
        ("[index.biuld]\n", 1, "Did you mean `build`?"),
        ("[ask]\nsizes = 1\n", 2, "unknown key `sizes`"),
        ('[compare]\nlimit = "many"\n', 2, '`limit` must be an integer of at least 1, got "many"'),
        ("[compare]\nlimit = 0\n", 2, "`limit` must be an integer of at least 1, got 0"),
        ("[compare]\nlimit = true\n", 2, "got true"),
        ("[compare]\nmargin = []\n", 2, "`margin` must be a number, got []"),
        ("compare.k = 1.5\n", 1, "`k` must be an integer of at least 1, got 1.5"),
        ("model = 3\n", 1, "`model` must be a text in quotation marks, got 3"),
        ('[compare]\nseeds = [0, 1.5]\n', 2, "`seeds` must be a text in quotation marks, or a list of them"),
        ('[compare]\nnormalise-labels = "yes"\n', 2, "`normalise-labels` must be true or false"),
        ('[compare]\nchecks = "repot"\n', 2, 'Did you mean "report"?'),
        ("data = 1979-05-27\n", 1, "got \"1979-05-27\""),
        ("[compare.data]\nx = 1\n", 1, "`data` is an option and not a command"),
        ("[compare.resume]\nyes = true\n", 2, "unknown key `yes`"),
        ("model = tiny\n", 1, "is not valid TOML: Invalid value"),
        ('[compare]\nk = 1\nk = 2\n', 3, "is not valid TOML: "),
        ('model = "tiny\n', 1, "is not valid TOML: "),
        ('api-key = "abc"\n', 1, "does not belong in a settings file, which others may read"),
        ('[compare]\nopenai_api_key = "abc"\n', 2, 'api-key-env = "OPENAI_API_KEY"'),
        ('api-key-env = "sk-abcdefghijklmnopqrstuvwxyz"\n', 1, "`api-key-env` contains a key or a password"),
        ('base-url = "http://me:secretpw@host/v1"\n', 1, "`base-url` contains a key or a password"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_and_the_line(text, line, said):
    settings(text)
    stderr = refused("compare", "--data", "rows.jsonl")
    assert stderr.startswith(f"error: ragkit.toml, line {line}: "), stderr
    assert said in stderr
    assert not re.search(r"sk-abc|secretpw", stderr)


@pytest.mark.parametrize("option", [["--config", "nowhere.toml"], ["--config", "."]])
def test_a_file_that_cannot_be_read_is_named(option):
    assert "`ragkit init`" in refused("compare", "--data", "rows.jsonl", *option)


def test_another_encoding_is_named(monkeypatch):
    Path("ragkit.toml").write_bytes('instruction = "Gr\u00fc\u00dfe"\n'.encode("latin-1"))
    assert "save the file as UTF-8" in refused("compare", "--data", "rows.jsonl")
    Path("ragkit.toml").write_bytes('\ufeffinstruction = "Gr\u00fc\u00dfe"\r\n'.encode())
    assert SettingsFile.find(None).defaults(["compare"], tree()) == {"instruction": "Gr\u00fc\u00dfe"}
    monkeypatch.setenv("RAGKIT_CONFIG", "missing.toml")
    assert "missing.toml cannot be read" in refused("compare", "--data", "rows.jsonl").replace(": cannot", " cannot")


def test_init_writes_a_file_of_valid_settings_that_changes_nothing(project):
    done = run("init")
    assert (done.returncode, done.stderr) == (0, "")
    text = Path("ragkit.toml").read_text(encoding="utf-8")
    assert not any(value for value in tomllib.loads(text).values() if value != {"run": {}})
    assert run("components", "stage").stderr == ""
    written = re.sub(r"^# (?=[a-z-]+ = )", "", text, flags=re.MULTILINE)
    assert len(re.findall(r"^[a-z-]+ = ", written, re.MULTILINE)) == text.count(" = ") - text.count('model = "openai')
    settings(written)
    found = SettingsFile.find(None).defaults(["compare"], tree())
    assert found["strategies"] == "majority,tfidf,zero-shot,few-shot:bm25"
    assert {"model", "base_url", "api_key_env", "money", "data", "fields", "limit", "out"} <= found.keys()
    assert SettingsFile.find(None).defaults(["pearl", "run"], tree())["context"] == "retrieved"


def test_init_never_overwrites_a_file():
    settings("model = 3\n")  # invalid, which does not matter here
    assert "already exists" in refused("init")
    assert Path("ragkit.toml").read_text(encoding="utf-8") == "model = 3\n"
    assert run("init", "other.toml").returncode == 0
    assert Path("other.toml").read_text(encoding="utf-8") == TEMPLATE
    assert "No such file" in refused("init", "nowhere/ragkit.toml")


def test_lists_are_the_options_that_are_separated_by_commas():
    found = set()

    def walk(command):
        for each in command.params:
            if "separated by commas" in (each.help or ""):
                found.update(option.removeprefix("--") for option in each.opts if option.startswith("--"))
        for below in getattr(command, "commands", {}).values():
            walk(below)

    walk(typer.main.get_command(app))
    assert found | {"sizes", "vary"} == LISTS  # whose help shows values with commas


def test_every_option_can_be_set():
    def walk(words, command, known):
        names = {
            option.removeprefix("--") for each in command.params if each.param_type_name == "option"
            for option in each.opts if option.startswith("--")
        }  # fmt: skip
        ours = hasattr(command, "options")
        assert set(known.options) == (names - {"config", "help", "yes"} if ours else set()), words
        for name, below in getattr(command, "commands", {}).items():
            walk([*words, name], below, known.below[name])

    top = typer.main.get_command(app)
    top.commands.pop("init", None)
    walk([], top, tree())
