"""A real headless Chromium, driven by the DevTools protocol over a pipe, so that no port and no package is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One page in a browser of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # Chromium reads commands from descriptor 3 and writes to 4; the copies are made above the range first,
        # because the pipes themselves may have these numbers.
        high_in, high_out = os.dup2(theirs_in, 503), os.dup2(theirs_out, 504)
        self._log = os.open(profile.with_suffix(".log"), os.O_CREAT | os.O_WRONLY)
        self._pid = os.posix_spawn(
            program,
            [program, *_ARGUMENTS, f"--user-data-dir={profile}"],
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self._log, 1),
                (os.POSIX_SPAWN_DUP2, self._log, 2),
                (os.POSIX_SPAWN_DUP2, high_in, 3),
                (os.POSIX_SPAWN_DUP2, high_out, 4),
            ],
            setpgroup=0,
        )
        for each in (theirs_in, theirs_out, high_in, high_out):
            os.close(each)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive before are kept in ``events``."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise AssertionError("the browser ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path, *, width: int = 1200, dark: bool = False, script: bool = True) -> None:
        """Load a file in a window of a width and in one of the colour schemes, with or without JavaScript."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise; an exception fails the test."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
        facts = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        self.call("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def requests(self) -> list[str]:
        """Return the addresses that the page has requested since it was opened."""
        return [
            each["params"]["request"]["url"]
            for each in self.events
            if each.get("method") == "Network.requestWillBeSent"
        ]

    def problems(self) -> list[str]:
        """Return the errors that the page has caused since it was opened."""
        logged = [each["params"]["entry"]["text"] for each in self.events if each.get("method") == "Log.entryAdded"]
        thrown = [str(each["params"]) for each in self.events if each.get("method") == "Runtime.exceptionThrown"]
        return logged + thrown

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Write what the page looks like to a PNG file."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, **({"clip": clip} if whole else {}))
        file.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser and all of its processes."""
        os.close(self._out)
        os.close(self._in)
        os.close(self._log)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def start_browser(profile: Path) -> Browser:
    """Start a browser with a new profile, or skip the test if none is installed."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium)")
    return Browser(program, profile)
