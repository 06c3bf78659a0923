"""Drives a headless Chromium through its DevTools pipe, without any package: enough to load, click and look."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 180


def find_browser() -> str | None:
    """A Chromium on this machine; $CONTOUR_AI_BROWSER first."""
    return os.environ.get("CONTOUR_AI_BROWSER") or next((p for n in NAMES if (p := shutil.which(n))), None)


needs_browser = pytest.mark.skipif(
    find_browser() is None or os.name == "nt",
    reason="no Chromium to look at the page with (apt-get install chromium-headless-shell)",
)


class Tab:
    """One page: `run` evaluates JavaScript, `events` holds what the browser said."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number, self._session, self._unread = 0, "", b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A DevTools command and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(deadline)
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise AssertionError(f"{method}: {answer['error']}")
            else:
                return dict(answer["result"])

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._back], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("the browser does not answer")
            part = os.read(self._back, 1 << 20)
            if not part:
                raise AssertionError("the browser is gone")
            self._unread += part
        one, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(one))

    def open(self, page: Path | str) -> None:
        """Loads a file or an address."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=1500, height=950, deviceScaleFactor=1, mobile=False
        )
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = PATIENCE_S) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never true: {condition}; {self.complaints()}"
            time.sleep(0.05)

    def settle(self) -> None:
        """Two frames: what was asked for is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A real mouse event: mouseMoved, mousePressed, mouseReleased or mouseWheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def key(self, name: str, text: str = "") -> None:
        """A key, pressed and let go."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name)

    def screenshot(self, path: Path) -> Path:
        """What the page looks like."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def processor_s(self) -> float:
        """Processor time of all of the browser's processes so far: what a busy machine does not change."""
        session, self._session = self._session, ""
        found = self.call("SystemInfo.getProcessInfo")["processInfo"]
        self._session = session
        return float(sum(process["cpuTime"] for process in found))

    def complaints(self) -> list[str]:
        """Errors of scripts, of the console and of the content policy."""
        self.run("1")
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [json.dumps(e["params"])[:800] for e in self.events if e.get("method") in kinds]

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        sent = (e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [p["request"]["url"] for p in sent]


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A headless browser with a profile of its own."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    program = find_browser()
    assert program is not None
    import fcntl

    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_read, back_write)]

    def pipes() -> None:
        """The browser reads commands from its file 3 and writes answers to its file 4."""
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, close_fds=False, preexec_fn=pipes, stderr=subprocess.DEVNULL)
    for fd in (to_read, back_write, *high):
        os.close(fd)
    try:
        yield Tab(to_write, back_read)
    finally:
        process.terminate()
        process.wait(20)
        os.close(to_write)
        os.close(back_read)
