"""Chromium without a window, driven through its own debugging pipe: no driver, no network."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --remote-debugging-pipe"


class Page:
    """One page, opened from a file or an address.

    Args:
        file: an HTML file, or an address that begins with http.
        profile: an empty folder for what the browser keeps.
        width: of the screen in CSS pixels.
        dark: whether the reader prefers dark pages.
    """

    def __init__(self, file: Path | str, profile: Path, width: int = 390, dark: bool = False) -> None:
        reads, to_browser = os.pipe()
        from_browser, writes = os.pipe()
        # 3 and 4 are where Chromium reads and writes
        command = f'exec "$0" {FLAGS} --user-data-dir="$1" 3<&{reads} 4>&{writes} 2>/dev/null'
        self.process = subprocess.Popen(["bash", "-c", command, str(CHROMIUM), profile], pass_fds=(reads, writes))
        os.close(reads)
        os.close(writes)
        self.sends, self.receives = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self.number = 0
        self.events: list[dict[str, Any]] = []
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=file if isinstance(file, str) else file.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *error: object) -> None:
        self.session = ""
        self.call("Browser.close")
        self.process.wait(10)
        self.sends.close()
        self.receives.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the Chrome DevTools Protocol, and its answer."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.sends.write(json.dumps(message).encode() + b"\0")
        self.sends.flush()
        while (answer := self._receive()).get("id") != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key by its name, such as `1`, `Tab` or `Backspace`."""
        text = {"Space": " ", "Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Tab": 9, "Backspace": 8, "Enter": 13, "Space": 32}.get(key, ord(key.upper()[0]))
        named = {"key": " " if key == "Space" else key, "windowsVirtualKeyCode": code}
        down = {**named, "type": "keyDown", "text": text} if text else {**named, "type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def waited(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression of JavaScript is true."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def complaints(self) -> list[str]:
        """What the console has of errors, refused requests and broken rules."""
        logged = [event["params"]["entry"]["text"] for event in self.events if event["method"] == "Log.entryAdded"]
        thrown = [event for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        return [*logged, *(event["params"]["exceptionDetails"]["text"] for event in thrown)]

    def requests(self) -> list[str]:
        """All addresses that were asked for."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def _receive(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self.receives.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser ended")
            message += byte
        found = json.loads(message)
        if "method" in found:
            self.events.append(found)
        return found
