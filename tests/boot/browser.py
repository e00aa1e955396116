"""A headless Chromium, driven by its own DevTools protocol over a websocket."""

import base64
import json
import os
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from clouds import wait_for
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--window-size=1024,800", "--remote-debugging-port=0",
)  # fmt: skip
KEYS = {"\n": ("Enter", "Enter", "\r"), " ": (" ", "Space", " ")}  # character → key, code, text


class Page:
    """One tab."""

    def __init__(self, wire: ClientConnection) -> None:
        self._wire, self._ids = wire, count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # as if each tab were a window of its own

    def call(self, method: str, **params: Any) -> Any:
        ident = next(self._ids)
        self._wire.send(json.dumps({"id": ident, "method": method, "params": params}))
        while True:
            said = json.loads(self._wire.recv(60))
            if said.get("id") == ident:
                assert "error" not in said, said
                return said["result"]
            if said.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(said["params"]))

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def status(self) -> str:
        """What the page says of its connection; the whole page where it has none."""
        return self.evaluate("(document.getElementById('status') || document.body || {}).textContent || ''") or ""

    def type(self, text: str) -> None:
        self.front()
        for letter in text:
            code = f"Key{letter.upper()}" if letter.isalpha() else f"Digit{letter}" if letter.isdigit() else ""
            key, code, said = KEYS.get(letter, (letter, code, letter))
            number = 13 if key == "Enter" else ord(letter.upper()) if code else 0
            event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=said, **event)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def click(self, element: str) -> None:
        self.front()
        self.evaluate(f"document.getElementById('{element}').click()")

    def front(self) -> None:
        """What is behind another tab is not painted."""
        self.call("Page.bringToFront")

    def screenshot(self, file: Path) -> None:
        self.front()
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


class Browser:
    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={home / 'profile'}", "about:blank"],
            env={**os.environ, "TMPDIR": str(home)},  # what it leaves there when it is ended goes with the rest
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        said = home / "profile" / "DevToolsActivePort"
        lines = wait_for(lambda: said.exists() and len(found := said.read_text().split()) == 2 and found, 120)
        self._url, self._wires = f"http://127.0.0.1:{lines[0]}", list[ClientConnection]()

    def page(self) -> Page:
        made = httpx.put(f"{self._url}/json/new?about:blank", timeout=60, trust_env=False).json()
        self._wires.append(connect(made["webSocketDebuggerUrl"], max_size=None, proxy=None, open_timeout=60))
        return Page(self._wires[-1])

    def close(self) -> None:
        for wire in self._wires:
            wire.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
