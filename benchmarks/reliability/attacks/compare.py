"""Attacks on comparisons: hostile data, answers and names in reports, and folders that someone else prepared."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from unittest import mock

from attack_case import Attack

from ragkit import Example, ScriptedModel, Task, compare
from ragkit._files import with_checksum
from ragkit.comparison import CompareOptions, Outcome, Results, html_report, markdown_report
from ragkit.errors import RagkitError
from ragkit_pipelines.compare.predictions import Items

POOL = [Example(f"pool {n}", "yes" if n % 2 else "no") for n in range(4)]
TASK = Task(
    "", POOL, [Example(f"row {n}", "yes" if n % 2 else "no") for n in range(40)], name="t", labels=("yes", "no")
)
KEY = "sk-live-0123456789abcdefghij"
CONTROL = (
    "\x1b]8;;http://evil.test\x07link\x1b]8;;\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\r\x00\x7f\u202etxt\u2066\u2028"
)
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
MARKUP = (
    "![x](http://evil.test/a.png) [y](javascript:alert(1)) [y] (javascript:x) ![z][ref] <img src=x onerror=alert(1)>"
    " <javascript:alert(1)> &#60;b&#62; `code | cell` |||| </title></script><script>alert(2)</script>"
    " <a href=javascript:alert(3)>y</a> {{ 1234567*9 }} $\\int$"
)
MADE = re.compile(r"<(img|a|script|b|code|pre|ol|blockquote|hr|h[13456]|li>\s*<ul)\b(?! href=\"http)")
BLOCKS = ("[ref]: javascript:alert(1)", "# heading", "```", "~~~", "1. item", "> quote", "- [ ] task", "---")


def command(*arguments: object, terminal: bool = False) -> tuple[int, str]:
    """Run ``ragkit`` in this process; return the exit code and everything that it printed."""
    from ragkit_pipelines.cli.main import main

    out, err, code = _Terminal() if terminal else io.StringIO(), io.StringIO(), 0  # progress bars move the cursor
    with (
        mock.patch.object(sys, "argv", ["ragkit", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        mock.patch.object(warnings, "showwarning", warnings.showwarning),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue() + err.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Named:
    """A strategy with any name, which gives the same answer to every row."""

    name: str
    answer: str = "yes"
    note: str = ""

    def run(self, _setting: object) -> Outcome:
        if self.note == "fail":
            raise ValueError(self.answer)
        return Outcome([self.answer] * 40, prompts=[self.answer] * 40, note=self.note)


def finished(folder: Path, text: str) -> Path:
    """A comparison in which every text that data, models and strategies control is hostile."""
    rows = [Example(f"{text} {n}", text if n % 2 else "no") for n in range(40)]
    pool = [Example(f"{text} pool {n}", text if n % 2 else "no") for n in range(4)]
    task = Task(text, pool, rows, name=text, labels=(text, "no"))
    strategies = [Named(text, answer=text), Named(f"{text} failed", answer=text, note="fail"), Named("plain")]
    out = folder / f"out{len(list(folder.glob('*')))}"
    compare(task, strategies, model=ScriptedModel([]), embedder="hash:8", out=out,
            options=CompareOptions(notes={text: text}))  # fmt: skip
    return out


# -- what reports and terminals show -----------------------------------------------------------------------------------


def show_controls(folder: Path) -> str:
    out = finished(folder, CONTROL)
    for arguments in (["show"], ["show", "--json"], ["show", "--markdown"], ["diff", out], ["diff", "--json", out]):
        _, text = command("compare", arguments[0], out, *arguments[1:])
        if found := UNSAFE.search(text):
            return f"`compare {' '.join(map(str, arguments))}` prints {found[0]!r}"
    _, text = command("compare", "show", "--json", out)
    if json.loads(text)["task"] != CONTROL:
        return "the printed JSON has another meaning"
    _, text = command("compare", "show", out, terminal=True)
    rest = re.sub(r"\x1b\[[\d;]*m", "", text)  # the colours of rich
    return f"a terminal is sent {found[0]!r}" if (found := UNSAFE.search(rest)) else ""


def error_controls(folder: Path) -> str:
    (folder / "results.json").write_text(json.dumps({CONTROL: CONTROL, "schema_version": CONTROL}), encoding="utf-8")
    data = folder / "rows.jsonl"
    data.write_text(json.dumps({CONTROL: 1}) + "\n", encoding="utf-8")
    named = [folder / "\x1b[2Jx", "--strategies", CONTROL.replace("\x00", "")]
    for arguments in (["compare", "show", folder], ["data", "check", data], ["compare", "--data", *named]):
        code, text = command(*arguments)
        if code != 2 or UNSAFE.search(text):
            return f"{arguments[:2]} exits with {code} and prints {text[:200]!r}"
    return ""


def controls_in_other_commands(folder: Path) -> str:
    rows = [{"input": f"{CONTROL} {n}", "output": CONTROL, "split": "test" if n % 2 else "train"} for n in range(40)]
    data = folder / "rows\x1b[31m.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *rows)), encoding="utf-8")
    (folder / "adapter").mkdir()
    adapter = {"peft_type": CONTROL, "base_model_name_or_path": CONTROL, "r": CONTROL}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(adapter), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"request": json.dumps({
        "data": CONTROL, "strategies": CONTROL, "sizes": None, "seeds": CONTROL, "model": CONTROL, "embedder": CONTROL,
        "instruction": CONTROL,
    })}), encoding="utf-8")  # fmt: skip
    for arguments in (
        ["data", "check", data], ["data", "check", data, "--json"], ["models", folder], ["models", folder, "--json"],
        ["select", "--pool", data, "--query", "x"], ["pool", "check", data], ["compare", "resume", folder],
        ["compare", "--data", data, "--strategies", "majority", "--embedder", "hash:8", "--out", folder / "out"],
        ["advise", "--data", data, "--embedder", "hash:8", "--out", folder / "advise"],
    ):  # fmt: skip
        for terminal in (False, True):
            code, text = command(*arguments, terminal=terminal)
            if found := UNSAFE.search(re.sub(r"\x1b\[[\d;]*m", "", text) if terminal else text):
                where = text[max(0, found.start() - 80) : found.start() + 20]
                return f"`ragkit {arguments[0]} {arguments[1]}` (exit code {code}) prints {where!r}"
    return ""


def markdown_injection(folder: Path) -> str:
    from markdown_it import MarkdownIt

    for text in (MARKUP, *(f"{block} {MARKUP}" for block in BLOCKS), *BLOCKS):
        page = (finished(folder, text) / "report.md").read_text(encoding="utf-8")
        tables = [block.splitlines() for block in re.split(r"\n\n", page) if block.startswith("| ")]
        if any(len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) != 1 for table in tables):
            return f"{text[:40]!r} breaks a table"
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
        if found := MADE.search(html[5:]):
            return f"{text[:40]!r} makes {html[5:][found.start() : found.start() + 80]!r}"
        if UNSAFE.search(page):
            return "the page contains control characters"
    return ""


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.own: Counter[str] = Counter()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        active = [name for name, value in attrs if name.startswith("on") or str(value).startswith("javascript:")]
        fetched = [
            value for name, value in attrs if name in {"src", "href", "xlink:href"} and not str(value).startswith("#")
        ]
        self.own[tag] += tag in {"script", "form"}
        if tag in {"img", "link", "iframe", "object"} or active or fetched:
            self.found.append(f"<{tag} {attrs}>")


def html_injection(folder: Path) -> str:
    for text in (
        MARKUP,
        '" onmouseover="alert(1)',
        "--><script>alert(1)</script>",
        "]]></svg><script>1</script>",
        CONTROL,
    ):
        out = finished(folder, text)
        page = html_report(Results.load(out), Items.load(out))
        tags = _Tags(page)
        if tags.found:
            return f"{text[:40]!r} makes {tags.found[0]}"
        if +tags.own != {"script": 2, "form": 1}:  # the answers as JSON, the script of the page, and the filter
            return f"{text[:40]!r} makes {+tags.own}"
        if "11111103" in page:
            return "a text was evaluated as a template"
    return ""


# -- folders that someone else prepared --------------------------------------------------------------------------------


def foreign_request(folder: Path, **request: object) -> Path:
    """A folder whose run.json names what an attacker wants to be loaded."""
    facts: dict[str, object] = {
        "data": str(folder / "rows.jsonl"), "strategies": "majority", "sizes": None, "seeds": "0", "model": None,
        "embedder": "hash:8", "instruction": "",
    }  # fmt: skip
    out = folder / "out"
    out.mkdir(exist_ok=True)
    (out / "run.json").write_text(json.dumps({"request": json.dumps(facts | request)}), encoding="utf-8")
    return out


def opened(work: Callable[[], object]) -> list[str]:
    """The paths and addresses with `evil` in them that are opened or listed while something runs."""
    seen: list[str] = []
    active = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if active[0] and event in {"open", "os.listdir", "os.mkdir", "sqlite3.connect", "socket.connect"}:
            seen.append(str(arguments[0] if event != "socket.connect" else arguments[1]))

    sys.addaudithook(hook)  # hooks cannot be removed, so that this one is switched off
    try:
        work()
    finally:
        active[0] = False
    return [path for path in seen if "evil" in path]


def resume_asks(folder: Path) -> str:
    evil = folder / "evil"
    evil.mkdir()
    (evil / "config.json").write_text("{}", encoding="utf-8")
    requests: tuple[Mapping[str, object], ...] = (
        {"data": str(evil / "rows.jsonl")}, {"model": f"hf:{evil}"}, {"embedder": f"st:{evil}"},
        {"strategies": f"imitate:hf:{evil}"}, {"docs": str(evil)}, {"prices": str(evil / "prices.json")},
        {"metric": f"judge:hf:{evil}"}, {"strategies": f"imitate:replay:{evil}/x.jsonl"},
    )  # fmt: skip
    for request in requests:
        out, printed = foreign_request(folder, **request), ("", "")
        before = sorted(path.name for path in out.iterdir())

        def resume(out: Path = out) -> None:
            nonlocal printed
            printed = command("compare", "resume", out)

        if found := opened(resume):
            return f"{request} opens {found[0]}"
        if printed[0] != 2 or "evil" not in printed[1]:
            return f"{request} is not shown: {printed}"
        if sorted(path.name for path in out.iterdir()) != before:
            return f"{request} writes to the folder without a confirmation"
    return ""


def hostile_requests(folder: Path) -> str:
    rows = [{"input": f"row {n}", "output": "a", "split": "test" if n % 2 else "train"} for n in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values: tuple[Mapping[str, object], ...] = (
        {"seeds": "9" * 5000}, {"seeds": "0," * 50}, {"sizes": "-1"}, {"sizes": "1e9"}, {"trials": -1},
        {"label_price": float("nan")}, {"checks": "none"}, {"vary": "x"}, {"data": 7},
        {"command": "rm"}, {"strategies": "majority,majority"}, {"metric": "os.system"}, {"strategies": "../../x"},
    )  # fmt: skip
    for request in values:
        code, text = command("compare", "resume", "--yes", foreign_request(folder, **request))
        if code != 2 or "Traceback" in text:
            return f"{request} exits with {code}: {text[-200:]!r}"
    for content in (
        "[" * 100_000,
        "{}",
        "[]",
        '{"request": 1}',
        "\0",
        '{"request": "' + "[" * 10**5 + '"}',
        "9" * 10**6,
    ):
        (folder / "out" / "run.json").write_text(content, encoding="utf-8")
        code, text = command("compare", "resume", "--yes", folder / "out")
        if code != 2 or len(text) > 2000:
            return f"{content[:20]!r} exits with {code} and prints {len(text)} characters"
    return ""


def links_out(folder: Path) -> str:
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret", encoding="utf-8")
    for name in (
        "kept",
        "answers.sqlite",
        "documents-0",
        "results.json",
        "items.json",
        "report.md",
        "run.json",
        "pipe",
    ):
        out = folder / f"out-{name}"
        out.mkdir()
        (out / "run.json").write_text("{}", encoding="utf-8")
        (out / name).unlink(missing_ok=True)
        if name == "pipe":
            os.mkfifo(out / name)
        else:
            (out / name).symlink_to(outside if name in {"kept", "documents-0"} else outside / name)
        with contextlib.suppress(RagkitError):
            compare(TASK, ["majority"], embedder="hash:8", out=out)
            return f"a link {name} is followed"
        if [path.name for path in outside.iterdir()] != ["secret"]:
            return f"a link {name} makes files outside of the folder"
    return ""


def blocking_files(folder: Path) -> str:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), sparse, lambda path: path.mkdir()):
        out = folder / str(len(list(folder.iterdir())))
        out.mkdir()
        for name in ("results.json", "items.json", "run.json"):
            make(out / name)
        for arguments in (["show"], ["show", "--markdown"], ["diff", out], ["resume", "--yes"]):
            code, text = command("compare", arguments[0], out, *arguments[1:])
            if code != 2:
                return f"`compare {arguments[0]}` exits with {code}: {text[-200:]!r}"
    return ""


def sparse(path: Path) -> None:
    """Make a file that seems to have a terabyte."""
    with path.open("wb") as file:
        file.truncate(2**40)


def hostile_results(folder: Path) -> str:
    out = finished(folder, "fine")
    for name in ("results.json", "items.json"):
        stored = json.loads((out / name).read_text(encoding="utf-8"))
        stored.pop("checksum")
        for value in (float("nan"), float("inf"), -1, 10**400, 1e300, "x", None, [], {"a": 1}, True):
            for where in paths(stored):
                found = edited(stored, where, value)
                (out / name).write_text(with_checksum(json.dumps(found)), encoding="utf-8")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        results, items = Results.load(out), Items.load(out)
                        results.markdown(), markdown_report(results, items)
                    except RagkitError:
                        continue
                    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the attack looks for
                        return f"{name} with {value!r} at {where}: {type(error).__name__}: {error}"
        (out / name).write_text(with_checksum(json.dumps(stored)), encoding="utf-8")
    return ""


def paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The paths to all values in JSON; of each list only to its first entry."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [(*path,), *(found for key, each in inner for found in paths(each, (*path, key)))]


def edited(stored: object, path: tuple[object, ...], value: object) -> object:
    """A copy of JSON with another value at one place."""
    if not path:
        return value
    copy = dict(stored) if isinstance(stored, dict) else list(stored)  # type: ignore[call-overload]
    copy[path[0]] = edited(copy[path[0]], path[1:], value)
    return copy


def hostile_cells(folder: Path) -> str:
    """Cells with the right key and checksum, but other content, as a folder from someone else may have."""
    out, expected = folder / "out", 20.0
    run = lambda: compare(TASK, ["majority", "copy:bm25"], embedder="hash:8", out=out).results.rows[0]  # noqa: E731
    run()
    (path,) = (out / "kept").rglob("majority.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored.pop("checksum", None)
    changes: tuple[tuple[tuple[object, ...], object], ...] = (
        (("scores",), [1.0]), (("answers",), []), (("scores", 0), 10**400), (("scores", 0), float("nan")),
        (("scores", 0), 2), (("row", "n"), 10**9), (("row", "correct"), float("inf")), (("row", "seed"), 10**400),
        (("row", "size"), 10**15), (("row", "strategy"), "copy:bm25"), (("prompts",), ["x"]), (("row",), []),
        (("confidence",), [0.5]), (("key",), [[[[]]]]),
    )  # fmt: skip
    for where, value in changes:
        path.write_text(with_checksum(json.dumps(edited(stored, where, value))), encoding="utf-8")
        row = run()
        if row.error or (row.correct, row.n, row.size) != (expected, 40, 4):
            return f"{value!r} at {where} is taken over: {row.error or row}"
    path.write_text("[" * 200_000, encoding="utf-8")
    return "" if run().correct == expected else "a deeply nested cell is taken over"


def foreign_repository(folder: Path) -> str:
    """A repository whose configuration names programs, which git would run for its status."""
    marker = folder / "ran"
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n", encoding="utf-8")
    program.chmod(0o755)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for name, value in (("core.fsmonitor", program), ("filter.x.clean", program), ("filter.x.process", program)):
        work = folder / name
        work.mkdir()
        (work / "a.txt").write_text("a", encoding="utf-8")
        for arguments in (["init", "-q"], ["add", "a.txt"], ["commit", "-qm", "a"], ["config", name, str(value)]):
            subprocess.run([*git, *arguments], cwd=work, check=True)
        (work / ".gitattributes").write_text("* filter=x\n", encoding="utf-8")
        (work / "a.txt").write_text("b", encoding="utf-8")
        marker.unlink(missing_ok=True)
        with contextlib.chdir(work):
            compare(TASK, ["majority"], embedder="hash:8")
        if marker.exists():
            return f"{name} of the repository was run"
    return ""


# -- secrets and other users -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaking:
    """A strategy whose error contains secrets."""

    name: str = "leaking"

    def run(self, _setting: object) -> Outcome:
        raise ValueError(f"https://me:{KEY}@host/v1?api_key={KEY} {os.environ['EVIL_API_KEY']} Bearer {KEY}")


def secrets_in_errors(folder: Path) -> str:
    with mock.patch.dict(os.environ, {"EVIL_API_KEY": "environment-secret"}):
        compare(TASK, [Leaking(), "majority"], embedder="hash:8", out=folder / "out")
    return stored_secrets(folder / "out")


def secrets_in_arguments(folder: Path) -> str:
    data = folder / "rows.jsonl"
    rows = [{"input": f"row {n}", "output": "a", "split": "test" if n % 2 else "train"} for n in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = ["compare", "--data", data, "--strategies", "majority", "--embedder", "hash:8", "--out", folder / "out"]
    with mock.patch.dict(os.environ, {"EVIL_API_KEY": "environment-secret"}):
        secrets = (KEY, "environment-secret", f"see https://me:{KEY}@host/v1", f"http://host/v1?api_key={KEY[3:]}")
        for option, secret in product(("--instruction", "--model", "--embedder", "--metric", "--docs"), secrets):
            code, text = command(*given, option, secret)
            if code != 2 or KEY[3:] in text or "environment-secret" in text:
                return f"{option} {secret} exits with {code} and prints {text[-300:]!r}"
            if found := stored_secrets(folder / "out"):
                return found
    return ""


def secrets_in_addresses(folder: Path) -> str:
    from ragkit import Retry, load_model

    with mock.patch.dict(os.environ, {"OPENAI_API_KEY": KEY[::-1]}):
        address = f"http://me:{KEY}@127.0.0.1:9/v1?api_key={KEY}"
        model = load_model("openai:small", base_url=address, retry=Retry(attempts=1), timeout=2)
        found = compare(TASK, ["zero-shot"], model=model, embedder="hash:8", out=folder / "out")
    if found.results.rows[0].error is None:
        return "the closed port answered"
    return stored_secrets(folder / "out", KEY[::-1])


def stored_secrets(folder: Path, *others: str) -> str:
    for path in (path for path in folder.rglob("*") if path.is_file()):
        for secret in (KEY, KEY[3:], "environment-secret", *others):
            if secret.encode() in path.read_bytes():
                return f"{path.name} contains a secret"
    return ""


def many_sizes(folder: Path) -> str:
    """Results with as many pool sizes as rows, which would make a table of millions of cells."""
    out = finished(folder, "fine")
    stored = json.loads((out / "results.json").read_text(encoding="utf-8"))
    stored.pop("checksum")
    stored["rows"] = [{**stored["rows"][0], "strategy": f"s{n}", "size": n} for n in range(3000)]
    (out / "results.json").write_text(with_checksum(json.dumps(stored)), encoding="utf-8")
    code, text = command("compare", "show", out)
    if code != 2:
        return f"`compare show` exits with {code} after {len(text)} characters"
    stored["rows"] = [{**row, "size": 4} for row in stored["rows"]] * 3
    stored["rows"] = [{**row, "strategy": f"s{n}"} for n, row in enumerate(stored["rows"])]
    (out / "results.json").write_text(with_checksum(json.dumps(stored)), encoding="utf-8")
    code, text = command("compare", "show", "--markdown", out)
    return "" if code == 0 else f"9,000 strategies are not shown: {text[-200:]!r}"


def private_results(folder: Path) -> str:
    previous = os.umask(0)
    try:
        out = finished(folder / "new", "fine")
    finally:
        os.umask(previous)
    mode = stat.S_IMODE(out.stat().st_mode)
    return "" if mode == 0o700 else f"the folder has the mode {mode:o}"


_TERMINAL = "Text from files, data and models cannot control the terminal: control characters are shown escaped."
_REPORTS = "Reports contain no links, images or HTML from data, answers or names, and tables keep their columns."
_FOREIGN = "A comparison reads and writes nothing outside of its folder but what the command line names or confirms."
_DAMAGE = "Results, items and cells with impossible values are refused or computed again, never shown or a crash."
_SECRETS = "Keys are neither stored in the folder of a comparison nor shown in its errors."

ATTACKS = [
    Attack("control characters in results", _TERMINAL, show_controls),
    Attack("control characters in errors", _TERMINAL, error_controls),
    Attack("control characters in other commands", _TERMINAL, controls_in_other_commands, slow=True),
    Attack("markup in report.md", _REPORTS, markdown_injection),
    Attack("markup in report.html", _REPORTS, html_injection),
    Attack("run.json that names files and models", _FOREIGN, resume_asks),
    Attack("run.json with impossible values", _DAMAGE, hostile_requests),
    Attack("links and pipes in the folder", _FOREIGN, links_out),
    Attack("files that block or fill the memory", _DAMAGE, blocking_files),
    Attack("impossible values in results and items", _DAMAGE, hostile_results),
    Attack("impossible values in cells", _DAMAGE, hostile_cells),
    Attack("a repository that names programs", _FOREIGN, foreign_repository),
    Attack("secrets in errors", _SECRETS, secrets_in_errors),
    Attack("secrets in arguments", _SECRETS, secrets_in_arguments),
    Attack("secrets in the address of a server", _SECRETS, secrets_in_addresses),
    Attack("a table of millions of cells", _DAMAGE, many_sizes),
    Attack("other users of the machine", "The folder of a comparison is readable by its owner only.", private_results),
]
