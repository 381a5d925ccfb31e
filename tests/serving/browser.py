"""Headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["CHROMIUM", "Browser", "Tab"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --no-proxy-server --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync --remote-debugging-port=0"
)
_UNTIL = """new Promise((resolve) => {
  const look = () => {
    const found = (() => (%s))();
    if (found) resolve(JSON.stringify(found === true ? true : String(found)));
    else setTimeout(look, 10);
  };
  look();
})"""


class Browser:
    """A browser that runs until the end of a `with` block."""

    def __init__(self, profile: Path) -> None:
        connect = pytest.importorskip("websockets.sync.client").connect
        assert CHROMIUM is not None
        self._process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS.split(), f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stderr is not None
        found = None
        for line in self._process.stderr:
            if found := re.search(r"ws://\S+", line):
                break
        assert found is not None, "Chromium did not start"
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(connect(found[0], max_size=None, proxy=None))
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        self._socket.send(json.dumps(message))
        while (answer := self._receive()).get("id") != number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def wait(self, event: str, session: str) -> None:
        """Wait for an event of a page."""
        while (received := self._receive()).get("method") != event or received.get("sessionId") != session:
            pass

    def _receive(self) -> dict[str, Any]:
        received = json.loads(self._socket.recv(timeout=60))
        if "method" in received:
            self.events.append(received)
        return received

    def open(self, url: str, *, width: int = 1200, height: int = 900, scheme: str = "light") -> Tab:
        """Open a page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for name in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{name}.enable")
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.resize(width, height)
        tab.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired", session)
        return tab


class Tab:
    """A page in a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, script: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait until an expression is true; return it as text."""
        return json.loads(self.run(_UNTIL % condition))

    def type(self, text: str) -> None:
        """Type text where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, **more: Any) -> None:
        """Press a key."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32}
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], **more}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def picture(self, path: Path) -> None:
        """Write what is seen to a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def names(self) -> list[tuple[str, str]]:
        """Return role and name of each node that a screen reader meets."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
        ]

    @property
    def problems(self) -> list[str]:
        """What the page has logged, exceptions and violations of its security policy among it, and addresses elsewhere."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        logged = [event["params"]["entry"]["text"] for event in mine if event["method"] == "Log.entryAdded"]
        thrown = [str(event["params"]) for event in mine if event["method"] == "Runtime.exceptionThrown"]
        return logged + thrown

    @property
    def addresses(self) -> list[str]:
        """The addresses that the page has asked for."""
        sent = [event for event in self._browser.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent if event.get("sessionId") == self._session]
