"""Hostile model folders, GGUF files, chat templates and prompts, and keys that errors must not show."""

from __future__ import annotations

import json
import os
import shutil
import struct
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attack_case import Attack
from jinja2 import TemplateError
from scripted_server import Reply, ScriptedServer, failed

from ragkit import load_model
from ragkit.errors import ModelAccessError, PromptTooLongError, RagkitError
from ragkit.models._template_sandbox import render
from ragkit.records import Chat, Message
from ragkit.tiny import WEIGHTS

KEYS = (
    "API keys and passwords never appear in an error, its causes or its notes; invalid keys are rejected when loading"
)
PROMPTS = "A prompt that cannot fit the context window is rejected before it is tokenized"
TEMPLATES = "A chat template of a foreign model folder cannot reach Python, and its work is limited"
FOLDERS = "Model folders are data: no code in them runs, memory is bounded, and every error is a RagkitError"
SPECIAL = "Special-token strings in prompts and messages are plain text"
KEY = "sk-5ecret+key/with=signs&more"


# Keys.


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def error_of(work: Callable[[], object]) -> RagkitError | None:
    try:
        work()
    except RagkitError as error:
        return error
    return None


def all_text(error: BaseException) -> str:
    """Everything that a log could show of an error: the traceback, and each error of the chain with its arguments."""
    said, pending, seen = traceback.format_exception(error), [error], set()
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            said += [str(each), repr(each), repr(each.args), repr(getattr(each, "__notes__", ""))]
            pending += [each.__cause__, each.__context__]
    return "\n".join(said)


def shown(secret: str, error: BaseException) -> str:
    text = all_text(error)
    forms = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""), secret.strip()}
    found = [form for form in forms if form in text]
    return (
        f"the secret is in {type(error).__name__}: …{text[max(0, text.find(found[0]) - 80) :][:160]}" if found else ""
    )


def invalid_keys(_: Path) -> str:
    for key in (
        f"{KEY}\n",
        f"{KEY}\r\nX-Evil: 1",
        f"{KEY} ",
        f" {KEY}",
        f"{KEY}\x7f",
        f"{KEY}é",
        f"{KEY}\u2028",
        f"{KEY}\t",
    ):
        with environment(OPENAI_API_KEY=key), ScriptedServer(Reply(failed())) as server:
            error = error_of(lambda: load_model("openai:m", base_url=server.url))
            if not isinstance(error, ModelAccessError):
                return f"a key with {key.replace(KEY, '')!r}: {type(error).__name__}"
            if problem := shown(key, error):
                return problem
            if server.requests:
                return "a request was sent"
    return ""


def echoing_replies() -> Iterator[Reply]:
    for status in (400, 401, 403, 404, 408, 409, 422, 429, 500, 503):
        for form in (
            KEY,
            repr(KEY),
            quote(KEY),
            quote(KEY, safe=""),
            json.dumps(KEY),
            f"Bearer {KEY}",
            str(KEY.encode()),
        ):
            yield Reply(failed(f"wrong: {form}", code=form, param=form), status)
    yield Reply({"choices": [], "error": {"message": KEY}})
    yield Reply({"choices": [{"message": {"content": "x", "refusal": None}, "finish_reason": KEY}], "usage": None})
    yield Reply(f"data: {json.dumps(failed(KEY))}\n\n".encode())
    yield Reply(f'data: {{"half {KEY}\n\n'.encode())


def echoed_keys(_: Path) -> str:
    for reply in echoing_replies():
        with environment(OPENAI_API_KEY=KEY), ScriptedServer(reply) as server:
            model = load_model("openai:m", base_url=server.url, retry=None).model  # type: ignore[attr-defined]
            for call in (lambda: model.generate("a"), lambda: list(model.stream("a"))):  # noqa: B023
                try:
                    call()
                except RagkitError as error:
                    if problem := shown(KEY, error):
                        return f"{reply.status}: {problem}"
    return ""


def keys_in_addresses(_: Path) -> str:
    for password in ("hunter2-s3cret", "p%40ss%2Fw0rd-long"):
        for address in (f"http://user:{password}@127.0.0.1:9/v1", f"http://127.0.0.1:9/v1?token={password}"):
            try:
                load_model("openai:m", base_url=address).model.generate("a")  # type: ignore[attr-defined]
            except RagkitError as error:
                if problem := shown(password, error):
                    return problem
            if password in load_model("openai:m", base_url=address).fingerprint:
                return "the password is in the fingerprint"
    for address in ("http://127.0.0.1:9/v1\n", "http://user:s3cret-word@ho st/v1", "http://127.0.0.1:9/\x00"):
        error = error_of(lambda: load_model("openai:m", base_url=address))  # noqa: B023
        if error is None:
            return f"{address!r} was accepted"
        if problem := shown("s3cret-word", error):
            return problem
    return ""


def keys_set_later(_: Path) -> str:
    """A key that becomes invalid after loading: the request cannot be written, which is not retried."""
    from pydantic import SecretStr

    with environment(OPENAI_API_KEY=KEY), ScriptedServer(Reply(failed())) as server:
        model: Any = load_model("openai:m", base_url=server.url)
        chat = model.model.chat_model
        for client in (chat.root_client, chat.root_async_client):
            client.api_key = f"{KEY}\n"
        chat.openai_api_key = SecretStr(f"{KEY}\n")
        try:
            model.generate("a")
        except ModelAccessError as error:
            return shown(KEY, error)
        except RagkitError as error:
            return f"{type(error).__name__} would be retried"
    return "no error"


# Prompts.


def long_prompts(_: Path) -> str:
    tiny: Any = load_model("tiny")
    for text in ("lamp fan " * 1_300_000, " " * 11_700_000, "\U0001f642" * 3_000_000):
        calls: list[Callable[[], object]] = [
            lambda: tiny.generate(text),  # noqa: B023
            lambda: tiny.score([text], ["a"]),  # noqa: B023
            lambda: tiny.score(["a"], [text]),  # noqa: B023
            lambda: list(tiny.stream(text)),  # noqa: B023
        ]
        for call in calls:
            if not isinstance(error_of(call), PromptTooLongError):
                return "it was accepted"
        if tiny.max_prompt_tokens(text) < len(text) // 10:
            return "the upper bound of its tokens is too low"
    return ""


def long_messages(_: Path) -> str:
    model = chat_model("{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}")
    for text in ("lamp fan " * 1_000_000, "<eos>" * 2_000_000):
        error = error_of(lambda: model.generate(Chat((Message("user", text),))))  # noqa: B023
        if not isinstance(error, PromptTooLongError):
            return f"{type(error).__name__} instead of PromptTooLongError"
    return ""


def special_tokens(_: Path) -> str:
    template = "{% for message in messages %}<bos>{{ message.role }}: {{ message.content }}<eos>{% endfor %}"
    tiny: Any = load_model("tiny")
    model = chat_model(template)
    specials = {0, 1, 2}
    for text in ("<eos>", "a<eos><bos>b", "<e<eos>os>", "<pad>" * 5, "{{ '<eos>' }}", "\ue000<eos>0\ue001"):
        ids = model.encode_prompt(Chat((Message("system", text), Message("user", text))))
        if [token for token in ids if token in specials] != [1, 2, 1, 2] or text not in model.tokenizer.decode(ids):
            return f"{text!r} in a message became {ids}"
        if (set(tiny.encode_prompt(text)[1:]) | set(tiny.encode_text(text))) & specials:
            return f"{text!r} in a text became a special token"
    return ""


# Templates.


def chat_model(template: str) -> Any:
    from ragkit.models._local import LocalModel

    tiny: Any = load_model("tiny")
    tiny.tokenizer.chat_template = template
    return LocalModel(tiny.module, tiny.tokenizer, name="chat", fingerprint="chat", source="tiny")


_SET = "{% set ns = namespace(x=START) %}{% for i in range(90) %}{% set ns.x = NEXT %}{% endfor %}{{ ns.x }}"


def growing(start: str, following: str) -> str:
    return _SET.replace("START", start).replace("NEXT", following)


ENDLESS = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "{% for i in range(99999) %}" + "y" * 100_000 + "{% endfor %}",
]
GROWING = [
    *(growing("'aaaaaaaa'", step) for step in ("ns.x ~ ns.x", "ns.x + ns.x", "ns.x * 2", "ns.x|replace('a', 'aa')")),
    *(growing("'aaaaaaaa'", step) for step in ("ns.x.replace('', ns.x)", "[ns.x, ns.x]|join")),
    *(growing("[1]", step) for step in ("[ns.x, ns.x]", "(ns.x, ns.x)", "dict(a=ns.x, b=ns.x)", "ns.x + ns.x")),
    growing("[1]", "[1]|batch(99999, ns.x)|list"),
    growing("99999999", "ns.x * ns.x"),
    "{% macro f() %}{{ f(varargs, varargs) }}{% endmacro %}{{ f() }}",
]
LARGE = [
    "{{ 'a' * 10**10 }}", "{{ 10**10 * 'a' }}", "{{ [1] * 10**10 }}", "{{ 9**9**9**9 }}", "{{ 'a'|center(10**10) }}",
    "{{ 'a'.center(10000000000) }}", "{{ 'a'.zfill(10**10) }}", "{{ '\t'.expandtabs(10**10) }}",
    "{{ '%10000000000d' % 1 }}", "{{ '%*d' % (10**10, 1) }}", "{{ '%10000000000d'|format(1) }}",
    "{{ '{:10000000000}'.format(1) }}", "{{ '{:{}}'.format(1, 10**10) }}", "{{ (1).to_bytes(10**10, 'big') }}",
    "{{ range(99999)|join('a' * 99999) }}", "{{ ('a' * 99999).join(range(99999)|map('string')) }}",
    "{{ ('a' * 99).translate({97: 'b' * 999999}) }}", "{{ (range(99999)|list)|tojson(indent=99999) }}",
    "{{ lipsum(10**7) }}",
]  # fmt: skip
ESCAPING = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__class__ }}", "{{ raise_exception.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}", "{{ self.__init__ }}", "{{ namespace(__class__=1) }}",
    "{{ '{0.__class__}'.format(1) }}", "{{ messages.append(1) }}", "{% include '/etc/passwd' %}",
    "{% import 'os' as o %}",
]  # fmt: skip


def refused(templates: list[str]) -> Callable[[Path], str]:
    def run(_: Path) -> str:
        for template in templates:
            try:
                text = render(template, [{"role": "user", "content": "a"}], variables={})
            except TemplateError:
                continue
            if text:  # an attribute that the sandbox hides is undefined and renders as nothing
                return f"{template[:100]!r} rendered {len(text)} characters: {text[:60]!r}"
        return ""

    return run


# Folders.


def changed(folder: Path, file: str, **values: object) -> Path:
    """Copy the folder of `tiny` with other settings in one of its files."""
    copy = folder / f"model{len(list(folder.iterdir()))}"
    shutil.copytree(WEIGHTS, copy)
    path = copy / file
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**settings, **values}), encoding="utf-8")
    return copy


def outcome(folder: Path) -> str:
    """Load a folder and generate; return an error that is not ragkit's."""
    try:
        load_model(f"hf:{folder}").generate("a", max_tokens=1)
    except RagkitError:
        return ""
    except Exception as error:  # noqa: BLE001 - any other error breaks the promise
        return f"{type(error).__name__}: {error}"
    return ""


def wrong_types(folder: Path) -> str:
    wrong: dict[str, dict[str, list[object]]] = {
        "config.json": {
            "vocab_size": ["x", -1, None], "num_attention_heads": [0], "model_type": [["a"]], "auto_map": [5],
            "quantization_config": [5], "layer_types": [5], "id2label": [5], "dtype": ["evil"],
        },
        "generation_config.json": {"eos_token_id": ["x", [[1]], {"a": 1}], "watermarking_config": [5]},
        "tokenizer_config.json": {
            "tokenizer_class": [5], "model_max_length": ["x", [1]], "chat_template": [5, [5], {"a": 1}],
            "added_tokens_decoder": [5, {"x": 5}], "eos_token": [5, {"a": 1}], "extra_special_tokens": [5],
        },
    }  # fmt: skip
    for file, keys in wrong.items():
        for key, values in keys.items():
            for value in values:
                if problem := outcome(changed(folder, file, **{key: value})):
                    return f"{key} = {value!r}: {problem}"
    return ""


def damaged_files(folder: Path) -> str:
    contents = [b"", b"[]", b"5", b"{", b"\xff\xfe\0", b"[" * 100_000, b'{"a":' * 100_000]
    header = json.dumps({"a": {"dtype": "F16", "shape": [10**9, 10**6], "data_offsets": [0, 2]}}).encode()
    weights = [b"", (2**63).to_bytes(8, "little"), (90_000_000).to_bytes(8, "little") + b"{}",
               b"\x02" + b"\0" * 7 + b"{}", len(header).to_bytes(8, "little") + header + b"\0\0"]  # fmt: skip
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "special_tokens_map.json",
    ):
        for content in contents:
            copy = changed(folder, "x.json")
            (copy / name).write_bytes(content)
            if problem := outcome(copy):
                return f"{name} = {content[:20]!r}: {problem}"
    for content in weights:
        copy = changed(folder, "x.json")
        (copy / "model.safetensors").write_bytes(content)
        if problem := outcome(copy):
            return f"weights {content[:20]!r}: {problem}"
    return ""


def large_settings(folder: Path) -> str:
    large: dict[str, object] = {
        "vocab_size": 10**9, "hidden_size": 10**7, "num_hidden_layers": 10**7, "num_attention_heads": 10**9,
        "intermediate_size": 10**9, "max_position_embeddings": 10**12, "layer_types": ["conv"] * 10**6,
    }  # fmt: skip
    for key, value in large.items():
        if problem := outcome(changed(folder, "config.json", **{key: value})):
            return f"{key}: {problem}"
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 10**7}
    return outcome(changed(folder, "config.json", layer_types=None, **llama))


def code_in_folders(folder: Path) -> str:
    marker = folder / "ran"
    code = f"open({str(marker)!r}, 'w')\nraise SystemExit\n"
    maps: dict[str, dict[str, object]] = {
        "config.json": {"model_type": "evil", "auto_map": {"AutoConfig": "evil.E", "AutoModelForCausalLM": "evil.E"}},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"},
        "generation_config.json": {"custom_generate": ".", "assistant_model": "evil"},
        "adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": "tiny",
                                "auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}},
    }  # fmt: skip
    for file, values in maps.items():
        copy = changed(folder, file, **values)
        (copy / "custom_generate").mkdir()
        for name in ("evil.py", "custom_generate/generate.py", "modeling_tiny.py"):
            (copy / name).write_text(code, encoding="utf-8")
        problem = outcome(copy)
        if problem or marker.exists():
            return f"{file}: {problem or 'code of the folder was run'}"
    for name in ("pytorch_model.bin", "model.pt", "adapter_model.bin"):
        copy = changed(folder, "x.json")
        (copy / "model.safetensors").unlink()
        (copy / name).write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
        problem = outcome(copy)
        if problem or marker.exists():
            return f"{name}: {problem or 'a pickle was run'}"
    return ""


def weights_outside(folder: Path) -> str:
    (folder / "secret.safetensors").write_bytes((WEIGHTS / "model.safetensors").read_bytes())
    for name in (
        "../secret.safetensors",
        str(folder / "secret.safetensors"),
        "../../../../etc/passwd",
        "a/../b.safetensors",
        5,
    ):
        copy = changed(
            folder, "model.safetensors.index.json", weight_map={"model.embed_tokens.weight": name}, metadata={}
        )
        (copy / "model.safetensors").unlink()
        try:
            load_model(f"hf:{copy}")
        except RagkitError:
            continue
        return f"weights were read from {name}"
    return ""


# GGUF files.


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(*, tensors: int = 0, keys: int | None = None, body: list[bytes]) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(body) if keys is None else keys) + b"".join(body)


def gguf_files(folder: Path) -> str:
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 1) + text("a")

    def number(name: str, value: int) -> bytes:
        return text(name) + struct.pack("<IQ", 10, value)

    files = {
        "keys": gguf(keys=2**63, body=[architecture]),
        "tensors": gguf(tensors=2**63, body=[architecture]),
        "string": gguf(keys=1, body=[struct.pack("<Q", 2**62)]),
        "array": gguf(body=[text("a") + struct.pack("<IIQ", 9, 0, 2**62)]),
        "array of strings": gguf(body=[text("a") + struct.pack("<IIQ", 9, 8, 2**40)]),
        "long array": gguf(body=[text("a") + struct.pack("<IIQ", 9, 0, 6_000_000) + bytes(6_000_000)]),
        "nested array": gguf(body=[text("a") + struct.pack("<IIQIQ", 9, 9, 1, 0, 1)]),
        "type": gguf(body=[text("a") + struct.pack("<I", 99)]),
        "key": gguf(body=[text(b"\xff") + struct.pack("<IB", 0, 0)]),
        "layers": gguf(body=[architecture, tokens, number("llama.block_count", 10**7)]),
        "width": gguf(body=[architecture, tokens, number("llama.embedding_length", 10**9)]),
        "dimensions": gguf(tensors=1, body=[]) + text("t") + struct.pack("<I", 2**31),
        "elements": gguf(tensors=1, body=[]) + text("t") + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0),
        "alignment": gguf(body=[architecture, number("general.alignment", 0)]),
        "empty": b"",
        "magic": b"GGUF",
    }
    for name, content in files.items():
        path = folder / "model.gguf"
        path.write_bytes(content)
        with environment(RAGKIT_CACHE=str(folder / "cache")):
            try:
                load_model(f"gguf:{path}")
            except RagkitError:
                continue
            except Exception as error:  # noqa: BLE001 - any other error breaks the promise
                return f"{name}: {type(error).__name__}: {error}"
        return f"{name}: it was loaded"
    return ""


def gguf_text(folder: Path) -> str:
    """A sparse file whose first text has two gigabytes."""
    path = folder / "model.gguf"
    with path.open("wb") as file:
        file.write(gguf(keys=1, body=[]) + text("a") + struct.pack("<IQ", 8, 2**31))
        file.truncate(2**31 + 100)
    from ragkit.models._gguf_header import GgufHeader

    try:
        GgufHeader.read(path, name="model", sizes={})
    except RagkitError:
        return ""
    return "it was read"


ATTACKS = [
    Attack("keys that cannot be sent", KEYS, invalid_keys),
    Attack("a server that returns the key in every form", KEYS, echoed_keys, seconds=120, slow=True),
    Attack("passwords in the address", KEYS, keys_in_addresses, seconds=60, slow=True),
    Attack("a key that becomes invalid", KEYS, keys_set_later),
    Attack("prompts of 12 MB", PROMPTS, long_prompts),
    Attack("messages of 10 MB", PROMPTS, long_messages),
    Attack("special tokens in documents", SPECIAL, special_tokens),
    Attack("templates that never end", TEMPLATES, refused(ENDLESS)),
    Attack("templates that grow", TEMPLATES, refused(GROWING), slow=True),
    Attack("templates with large values", TEMPLATES, refused(LARGE)),
    Attack("templates that leave the sandbox", TEMPLATES, refused(ESCAPING)),
    Attack("settings of wrong types", FOLDERS, wrong_types, seconds=60, slow=True),
    Attack("damaged files", FOLDERS, damaged_files, seconds=90, slow=True),
    Attack("settings that need much memory", FOLDERS, large_settings, seconds=60, slow=True),
    Attack("code in a model folder", FOLDERS, code_in_folders, seconds=60, slow=True),
    Attack("weights outside the folder", FOLDERS, weights_outside),
    Attack("GGUF files with huge counts", FOLDERS, gguf_files),
    Attack("a GGUF file with a huge text", FOLDERS, gguf_text),
]
