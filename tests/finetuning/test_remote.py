"""Fine-tuning at a vendor, over real HTTP: nothing is uploaded or paid for twice, whatever happens."""

import json

import pytest
from command_line import run as ragkit
from vendor_server import Vendor

from ragkit import Example, Task, Template, compare, finetune, load_model
from ragkit.errors import (
    EmptyPoolError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    TrainingError,
    UnsupportedError,
)
from ragkit.finetuning import _remote as remote
from ragkit.finetuning import cancel_finetuning, estimate_finetuning, export_merged, finetuning_checkpoints
from ragkit.models import AdapterSet, Price, Prices
from ragkit.records import Chat, Message
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.strategies.training import Tuning

ROWS = [Example(f"dim the {word} é", f"fade {word}") for word in ("lamp", "fan", "vent")]
TEMPLATE = Template(instruction="Name the action.")
KEY = "sk-secret-1234567890"


@pytest.fixture
def vendor(monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_WAIT", 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Vendor() as running:
        yield running


def begun(vendor, folder, **arguments):
    prices = Prices({"openai:small": Price(input=1, output=2, training=3.0)})
    model = load_model("openai:small", base_url=vendor.url, prices=prices)
    settings = {"template": TEMPLATE, "epochs": 2, "seed": 5, **arguments}
    return finetune(model, ROWS, method="api", output_dir=folder, **settings)


def test_a_model_comes_of_it(vendor, tmp_path):
    options = {"suffix": "mine", "batch_size": 4}
    tuned = begun(vendor, tmp_path / "run", eval=ROWS[:1], trainer_config=options)
    (job,) = vendor.jobs.values()
    assert (job["model"], job["seed"], job["suffix"]) == ("small", 5, "mine")
    assert job["method"] == {"type": "supervised",
                             "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}  # fmt: skip
    assert vendor.rows("training_file") == [
        {"messages": [{"role": "system", "content": TEMPLATE.instruction}, {"role": "user", "content": row.input},
                      {"role": "assistant", "content": row.output}]}
        for row in ROWS
    ]  # fmt: skip
    assert len(vendor.rows("validation_file")) == 1
    manifest = tuned.manifest
    assert (manifest.form, manifest.base, manifest.remote) == ("remote", "openai:small", "openai:ft:small:org::ftjob-1")
    assert (manifest.tokens, manifest.cost, manifest.loss, manifest.eval_loss) == (1500, 0.0045, 0.25, 0.5)
    assert manifest.template == TEMPLATE
    with pytest.raises(InvalidInputError, match="pass `base_url`"):  # the key goes only where the caller wants it
        load_model(f"hf:{tmp_path / 'run'}")
    for model in (tuned.model, load_model(f"hf:{tmp_path / 'run'}", base_url=vendor.url)):
        assert model.name == "openai:ft:small:org::ftjob-1"
        assert model.generate("hi").text == "ft:small:org::ftjob-1 says hi"
    with pytest.raises(InvalidInputError, match="whose weights are at the vendor"):
        export_merged(f"hf:{tmp_path / 'run'}", tmp_path / "merged")
    with pytest.raises(InvalidInputError, match="is not on this machine"):
        AdapterSet(f"hf:{tmp_path / 'run'}", {})
    calls = len(vendor.calls)
    assert begun(vendor, tmp_path / "run", eval=ROWS[:1], trainer_config=options).manifest == manifest
    assert len(vendor.calls) == calls
    with pytest.raises(InvalidInputError, match="holds another fine-tuned model"):
        begun(vendor, tmp_path / "run", epochs=3)
    kept = "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert KEY not in kept
    assert vendor.keys == {f"Bearer {KEY}"}


def test_conversations_are_sent_as_they_are(vendor, tmp_path):
    turns = [("system", "short"), ("user", "a"), ("assistant", "b")]
    chat = Chat(tuple(Message(*turn) for turn in turns))
    model = load_model("openai:small", base_url=vendor.url)
    tuned = finetune(model, [chat], method="api", output_dir=tmp_path / "run", epochs=1)
    assert vendor.rows("training_file") == [
        {"messages": [{"role": role, "content": content} for role, content in turns]}
    ]
    assert tuned.manifest.cost is None  # no price of training is known


@pytest.mark.parametrize("place", ["upload", "create", "look"])
@pytest.mark.parametrize("trouble", [429, 500, "after"])
def test_trouble_that_passes(vendor, tmp_path, monkeypatch, place, trouble):
    monkeypatch.setattr(remote, "Retry", lambda: remote_retry())
    vendor.trouble = {place: [trouble, trouble] if trouble != "after" else [trouble]}
    begun(vendor, tmp_path / "run", eval=ROWS[:1])
    assert (len(vendor.files), len(vendor.jobs)) == (2, 1)


def remote_retry():
    from ragkit.models import Retry

    return Retry(attempts=4, first_wait=0.0)


@pytest.mark.parametrize("writes", [1, 2])
def test_a_kill_at_any_moment_repeats_nothing(vendor, tmp_path, monkeypatch, writes):
    """The process ends after an upload, after the job was begun, and while the vendor trains."""
    real, left = remote._State.write, [writes]

    def killed(state, folder):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(state, folder)

    monkeypatch.setattr(remote._State, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        begun(vendor, tmp_path / "run")
    monkeypatch.setattr(remote._State, "write", real)
    monkeypatch.setattr(remote.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begun(vendor, tmp_path / "run")
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    assert begun(vendor, tmp_path / "run").manifest.remote == "openai:ft:small:org::ftjob-1"
    assert (vendor.made("files"), vendor.made("fine_tuning/jobs")) == (1, 1)
    with pytest.raises(InvalidInputError, match="holds another"):
        begun(vendor, tmp_path / "run", seed=6)


def test_a_job_that_fails(vendor, tmp_path):
    vendor.states, vendor.error = ["running", "failed"], {"code": "x", "message": "too few rows", "param": None}
    with pytest.raises(TrainingError, match="too few rows; call again"):
        begun(vendor, tmp_path / "run")
    with pytest.raises(InvalidInputError):
        load_model(f"hf:{tmp_path / 'run'}")
    vendor.states = ["succeeded"]
    assert begun(vendor, tmp_path / "run").manifest.remote == "openai:ft:small:org::ftjob-2"
    assert (len(vendor.files), len(vendor.jobs)) == (1, 2)


def test_cancelling(vendor, tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="nothing to cancel"):
        cancel_finetuning(tmp_path)
    vendor.states = ["running"]
    monkeypatch.setattr(remote.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begun(vendor, tmp_path / "run")
    with pytest.raises(InvalidInputError, match="pass `base_url`"):
        cancel_finetuning(tmp_path / "run")
    assert cancel_finetuning(tmp_path / "run", base_url=vendor.url) == "cancelled"
    with pytest.raises(TrainingError, match="the job is cancelled"):
        begun(vendor, tmp_path / "run")


def test_turns_keep_their_weights(vendor, tmp_path):
    roles = (("user", 1.0), ("assistant", 0.0), ("user", 0.0), ("assistant", 1.0))
    chat = Chat(tuple(Message(role, f"say {n}", weight=weight) for n, (role, weight) in enumerate(roles)))
    model = load_model("openai:small", base_url=vendor.url)
    finetune(model, [chat], method="api", output_dir=tmp_path / "run")
    (row,) = vendor.rows("training_file")
    assert [turn.get("weight") for turn in row["messages"]] == [None, 0, None, None]
    for turn, message in (
        (Message("assistant", "b", weight=0.5), r"turn 1 of `train\[1\]` has the weight 0.5; the vendor takes 0 and 1"),
        (Message("tool", "b"), r"turn 1 of `train\[1\]` has the role 'tool'"),
    ):
        other = Chat((Message("user", "a"), turn, Message("assistant", "c")))
        with pytest.raises(UnsupportedError, match=message):
            finetune(model, [chat, other], method="api", output_dir=tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_what_is_refused(vendor, tmp_path):
    for arguments, message in (
        ({"learning_rate": 0.1}, "`learning_rate`"),
        ({"objective": "text"}, "objective='text'"),
        ({"trainer_config": {"bf16": True}}, "`trainer_config` with 'bf16'"),
        ({"max_length": 100}, "`max_length`"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            begun(vendor, tmp_path / "run", **arguments)
    with pytest.raises(InvalidInputError, match="whole number for 'api'"):
        begun(vendor, tmp_path / "run", epochs=1.5)
    with pytest.raises(UnsupportedError, match="OpenAI's protocol"):
        finetune("tiny", ROWS, method="api", output_dir=tmp_path / "run")
    with pytest.raises(EmptyPoolError):
        finetune("openai:small", [], method="api", output_dir=tmp_path / "run")
    assert vendor.calls == []
    assert not (tmp_path / "run").exists()
    vendor.trouble = {"files": [401]}
    with pytest.raises(ModelAccessError, match="trouble 401"):
        begun(vendor, tmp_path / "run")
    vendor.trouble = {"create": [400]}
    with pytest.raises(ModelError, match="trouble 400") as caught:
        begun(vendor, tmp_path / "run")
    assert KEY not in str(caught.value)


def test_on_the_command_line(vendor, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"input": row.input, "output": row.output}) for row in ROWS))
    options = ["--data", data, "--model", "openai:small", "--base-url", vendor.url, "--method", "api", "--out",
               tmp_path / "run"]  # fmt: skip
    refused = ragkit("finetune", *options)
    assert refused.returncode != 0
    assert "3 rows, 3 epochs, about 132 training tokens: an unknown price" in refused.stderr
    assert "pass --yes" in refused.stderr
    assert vendor.calls == []
    done = ragkit("finetune", *options, "--yes")
    assert done.returncode == 0, done.stderr
    assert "openai:ft:small:org::ftjob-1:ckpt-step-2" in done.stdout
    assert "load_model" in done.stdout
    said = ragkit("generate", "hi", "--model", f"hf:{tmp_path / 'run'}", "--base-url", vendor.url).stdout
    assert said == "ft:small:org::ftjob-1 says hi\n"
    found = json.loads(ragkit("models", tmp_path, "--json").stdout)["found"]
    assert [(model["kind"], model["base"]) for model in found] == [("fine-tuned", "openai:small")]


def test_the_cost_and_the_checkpoints(vendor, tmp_path):
    prices = Prices({"openai:small": Price(input=1, output=2, training=3.0)})
    model = load_model("openai:small", base_url=vendor.url, prices=prices)
    found = estimate_finetuning(model, ROWS, epochs=2, template=TEMPLATE)
    assert (found.rows, found.epochs) == (3, 2)
    assert found.cost == pytest.approx(found.tokens * 3.0 / 1e6)
    assert estimate_finetuning(model, ROWS, epochs=4, template=TEMPLATE).tokens == 2 * found.tokens
    assert vendor.calls == []
    with pytest.raises(InvalidInputError, match="holds no job"):
        finetuning_checkpoints(tmp_path)
    begun(vendor, tmp_path / "run")
    checkpoints = finetuning_checkpoints(tmp_path / "run", base_url=vendor.url)
    assert [(each.step, each.loss, each.eval_loss) for each in checkpoints] == [(2, 0.5, 1.0), (4, 0.25, 0.5)]
    first = load_model(checkpoints[0].model, base_url=vendor.url)
    assert first.generate("hi").text == "ft:small:org::ftjob-1:ckpt-step-2 says hi"


def test_the_folder_of_a_run_is_a_model_of_a_comparison(vendor, tmp_path):
    begun(vendor, tmp_path / "run")
    data = tmp_path / "rows.jsonl"
    words = ["lamp", "fan", "vent", "door", "hall", "sun"]
    data.write_text("\n".join(json.dumps({"input": f"dim the {word}", "output": f"fade {word}"}) for word in words))
    done = ragkit("compare", "--data", data, "--model", f"hf:{tmp_path / 'run'}", "--base-url", vendor.url,
                  "--strategies", "zero-shot", "--embedder", "hash:8", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["model"] == "openai:ft:small:org::ftjob-1"


def test_training_at_a_vendor_is_one_strategy_of_a_comparison(vendor, tmp_path):
    prices = Prices({"openai:small": Price(input=1, output=2, training=3.0)})
    model = load_model("openai:small", base_url=vendor.url, prices=prices)
    task = Task("", ROWS, [Example("dim the sun", "fade sun")])
    row = compare(
        task, [Tuning("api", epochs=2)], model=model, embedder="hash:8", out=tmp_path, options=CompareOptions(trials=3)
    ).results.rows[0]
    assert (row.error, row.trials) == (None, 0)
    assert row.fit_tokens > 0
    assert row.fit_cost == pytest.approx(row.fit_tokens * 3.0 / 1e6)
    assert row.fit_flops is None
