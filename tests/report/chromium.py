"""A headless Chromium spoken to through a pair of pipes (the DevTools protocol, JSON ended by NUL): no library, no port."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PATIENCE = 120.0  # seconds for an answer, on a loaded machine


def executable() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page. `events` collects all that the browser said about it, in order."""

    def __init__(self, browser: "Chromium", session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, params, self.session)

    def open(self, address: str, settle: float) -> None:
        """Load a page, and give what it may have in mind `settle` seconds more."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.browser.wait(lambda: self.said("Page.loadEventFired") or self.said("Inspector.targetCrashed"))
        assert not self.said("Inspector.targetCrashed")
        self.browser.rest(settle)

    def said(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; the page's policy does not bind the inspector."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def width(self, pixels: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)


class Chromium:
    def __init__(self, profile: Path) -> None:
        name = executable()
        assert name is not None
        theirs_in, self.into = _pipe()
        self.out, theirs_out = _pipe()
        self.process = os.posix_spawn(
            name,
            [name, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs_in, 3),
                (os.POSIX_SPAWN_DUP2, theirs_out, 4),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.number, self.rest_of, self.answers, self.tabs = 0, b"", {}, {}  # type: ignore[var-annotated]

    def call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.into, json.dumps(message).encode() + b"\0")
        self.wait(lambda: number in self.answers)
        answer = self.answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    def wait(self, done: Any) -> None:
        until = time.monotonic() + PATIENCE
        while not done():
            assert self._read(max(0.0, until - time.monotonic())), "Chromium does not answer"

    def rest(self, seconds: float) -> None:
        """Let time pass, and take in what is said meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._read(left)

    def _read(self, timeout: float) -> bool:
        """Take in what the browser says next; False if that is nothing."""
        if not select.select([self.out], [], [], timeout)[0]:
            return False
        read = os.read(self.out, 1 << 20)
        assert read, "Chromium has gone"
        *messages, self.rest_of = (self.rest_of + read).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self.answers[message["id"]] = message
                continue
            tab = self.tabs.get(message.get("sessionId"))
            if tab is not None:
                tab.events.append(message)
                if message["method"] == "Page.javascriptDialogOpening":  # an open dialog stops everything
                    self.number += 1
                    close = {"id": self.number, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
                    os.write(self.into, json.dumps({**close, "sessionId": tab.session}).encode() + b"\0")
        return True

    def tab(self) -> Tab:
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.tabs[session] = Tab(self, session, target)
        return self.tabs[session]

    def pages(self) -> set[str]:
        """Open tabs and windows."""
        targets = self.call("Target.getTargets", {})["targetInfos"]
        return {target["targetId"] for target in targets if target["type"] == "page"}

    def close(self, tab: Tab) -> None:
        self.call("Target.closeTarget", {"targetId": tab.target})
        del self.tabs[tab.session]

    def quit(self) -> None:
        """Ask it to go; end its process group if it does not."""
        with contextlib.suppress(OSError, AssertionError):
            os.write(self.into, b'{"id": 0, "method": "Browser.close", "params": {}}\0')
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if os.waitpid(self.process, os.WNOHANG)[0]:
                break
            time.sleep(0.05)
        else:
            os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        os.close(self.into)
        os.close(self.out)


def _pipe() -> tuple[int, int]:
    """A pipe (read end, write end) whose numbers are out of the way of 3 and 4, closed in children."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    browser = Chromium(profile)
    try:
        yield browser
    finally:
        browser.quit()
