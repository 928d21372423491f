"""A real browser, without a window, looking at a real `ivmix demo`: what its test needs of both."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

PATIENCE = 120  # seconds for whatever is to appear: two cores may be busy

# Put before everything that the server's Python imports: notes, and refuses, whatever leaves the machine.
GUARD = '''
import os, sys

def watch(event, given):
    host = None
    if event in ("socket.connect", "socket.sendto") and isinstance(given[1], tuple):
        host = given[1][0]
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = given[0]
    if host and str(host) not in ("127.0.0.1", "::1", "localhost"):
        with open(os.environ["IVMIX_TEST_CALLS"], "a") as file:
            file.write(f"{event} {host}\\n")
        raise OSError(f"{event} {host}: no test leaves the machine")

sys.addaudithook(watch)
'''


def need(condition: object, what: str) -> None:
    if not condition:
        pytest.skip(f"THE PAGE IS NOT TESTED: there is no {what}")


class Server:
    """`ivmix demo` in a process of its own, guarded, at a free port; `calls` is what it asked of other machines."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.temporary, self._calls = folder / "temporary", folder / "calls"
        for one in (self.temporary, folder / "guard"):
            one.mkdir()
        (folder / "guard" / "sitecustomize.py").write_text(GUARD)
        # One thread, so that clips can be compared with those of a command, to the byte.
        self.environment = os.environ | {
            "PYTHONPATH": str(folder / "guard"), "IVMIX_TEST_CALLS": str(self._calls), "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "ivmix", "demo", "--port", "0", "--device", "cpu", *options]
        listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore it
        self._process = subprocess.Popen(
            command, env=self.environment, stderr=subprocess.PIPE, text=True, preexec_fn=listen
        )
        assert self._process.stderr is not None
        self.address = self._process.stderr.readline().partition(" ")[0].strip()
        assert self.address.startswith("http://127.0.0.1:"), self.address + self._process.stderr.read()

    @property
    def calls(self) -> str:
        return self._calls.read_text() if self._calls.exists() else ""

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """A Python in the server's environment."""
        return subprocess.run([sys.executable, *command], env=self.environment, capture_output=True, text=True)

    def get(self, address: str) -> bytes:
        with urllib.request.urlopen(address) as answer:
            return answer.read()  # type: ignore[no-any-return]

    def has(self, address: str) -> bool:
        try:
            return bool(self.get(address))
        except HTTPError:
            return False

    def stop(self) -> tuple[int, str]:
        """As Ctrl-C does; the exit status, and what it said after its address."""
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, said.strip()


def chromium() -> Any:
    """A driver of the system's Chromium, which finds no other machine by any name."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="THE PAGE IS NOT TESTED: there is no selenium")
    named = ("chromium", "chromium-browser", "google-chrome")
    browser, driver = next(filter(None, map(shutil.which, named)), None), shutil.which("chromedriver")
    need(browser and driver, "Chromium with its chromedriver (apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900",
                     "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


class Page:
    """A tab with the page in it."""

    def __init__(self, driver: Any, server: Server) -> None:
        self.driver, self.server = driver, server
        driver.switch_to.new_window("tab")
        self.tab = driver.current_window_handle
        self.open()

    def open(self) -> None:
        self.driver.get(self.server.address)
        self.until(lambda: self.find("#sample") and self.value("#seed") == "0")

    def close(self) -> None:
        """Leaves the browser in another tab."""
        self.driver.close()
        self.driver.switch_to.window(self.driver.window_handles[0])

    def look(self) -> "Page":
        self.driver.switch_to.window(self.tab)
        return self

    def find(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def until(self, found: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: found())

    def type(self, field: str, text: str) -> None:
        self.type_on(field, "\ue009a\ue009\ue017" + text)  # Control-a, Delete

    def type_on(self, field: str, keys: str) -> None:
        [box] = self.find(f"{field} :is(input, textarea)")
        box.send_keys(keys)

    def choose(self, field: str, text: str) -> None:
        self.type(field, text)
        self.until(lambda: [one for one in self.find("[role=option]") if one.text.strip("✓ \n") == text])
        self.type_on(field, "\ue007")  # Enter

    def unfold(self, title: str) -> None:
        [head] = [one for one in self.find("button.label-wrap") if one.text.startswith(title)]
        head.click()

    def value(self, field: str) -> str:
        [box] = self.find(f"{field} :is(input, textarea)")
        return str(box.get_property("value"))

    def fill(self, **facts: str) -> None:
        for name, text in facts.items():
            self.type(f"#{name}", text)

    def click(self, button: str) -> None:
        self.until(lambda: self.find(f"#{button}")[0].is_enabled())
        self.find(f"#{button}")[0].click()

    def said(self) -> str:
        return " ".join(one.text for one in self.find("#said .said"))

    def clips(self, count: int) -> list[str]:
        """The names of so many clips, once there are that many and the run has ended."""
        self.until(lambda: len(self.find(".clips figure")) == count and self.find("#sample")[0].is_enabled())
        return [str(figure.get_attribute("data-sampler")) for figure in self.find(".clips figure")]

    def links(self, text: str) -> list[str]:
        return [str(one.get_property("href")) for one in self.find(".clips a") if one.text == text]

    def requests(self) -> list[str]:
        """The addresses of all that this browser's pages asked for since the last call."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = ("Network.requestWillBeSent", "Network.webSocketCreated")
        return [e["params"].get("request", e["params"])["url"] for e in entries if e["method"] in asked]
