"""Headless Chromium, driven over its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ describes methods and events. They travel over two pipes, so
that neither a driver nor a port is needed.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
]
# Chromium reads commands from descriptor 3 and writes to 4; the pipes get these numbers in a process of its own.
LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for number, fd in enumerate(pipes, 3):
    os.dup2(fd, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 60.0
"Seconds to wait for an answer or event; a shared machine can be slow."


class Browser:
    """A page in Chromium; `events` are all events so far, as (method, parameters)."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.buffer = b""
        self.session = ""
        self.sent = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result. Raises RuntimeError if it fails."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        os.write(self.commands, json.dumps(message | self._target()).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def open(self, page: Path, width: int = 1400, dark: bool = False, fragment: str = "") -> None:
        """Open a page from the file system in a window `width` CSS pixels wide, and wait until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        while not self.seen("Page.loadEventFired"):
            self._read()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page. Raises RuntimeError if it throws."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def seen(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of all events of a method since the page was opened."""
        return [parameters for name, parameters in self.events if name == method]

    def _target(self) -> dict[str, str]:
        return {"sessionId": self.session} if self.session else {}

    def _read(self) -> dict[str, Any]:
        """Read a message; an event is kept in `events` as well."""
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], PATIENCE)
            chunk = os.read(self.answers, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("Chromium does not answer")
            self.buffer += chunk
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = dict(json.loads(text))
        if "method" in message:
            self.events.append((message["method"], message.get("params", {})))
        return message


@contextmanager
def chromium(executable: str, profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in the folder `profile`, and end it."""
    (read_commands, commands), (answers, write_answers) = os.pipe(), os.pipe()
    pipes = (read_commands, write_answers)
    command = [sys.executable, "-c", LAUNCH, *map(str, pipes), executable, *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for pipe in pipes:
        os.close(pipe)
    try:
        browser = Browser(commands, answers)
        yield browser
        browser.session = ""
        browser.call("Browser.close")
    finally:
        os.close(commands)
        os.close(answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
