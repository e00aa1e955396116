"""Consoles of a real guest in a real browser: seen, typed into, shared, taken over, and over when the guest is."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page
from clouds import BUILT, RunningCloud, wait_for

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root"),
    pytest.mark.xdist_group("consoles"),  # one cloud, one browser
]
PATIENCE = 240  # seconds, for a guest under TCG on a busy machine
LIT = """(() => {
  const canvas = document.querySelector("#console canvas");
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let lit = 0;
  for (let at = 0; at < data.length; at += 4) lit += data[at] > 64;
  return lit;
})()"""  # pixels that are not black
ROWS = "Array.from(document.querySelectorAll('.xterm-rows > div'), (row) => row.textContent).join('\\n')"

BELOW = """(() => {
  const row = document.querySelector(".xterm-rows > div"), style = getComputedStyle(row);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${style.fontSize} ${style.fontFamily}`;
  const font = pen.measureText("_"), line = font.fontBoundingBoxAscent + font.fontBoundingBoxDescent;
  const baseline = (row.clientHeight - line) / 2 + font.fontBoundingBoxAscent;
  return baseline + font.actualBoundingBoxDescent - row.clientHeight;
})()"""  # pixels of an underscore that a terminal's row cuts off


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    state = tmp_path_factory.mktemp("consoles") / "cloud"
    made = RunningCloud(state, "auto", "--guest-image", str(BUILT / "guest.qcow2")).up()
    yield made
    made.purge()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


def create(cloud: RunningCloud, name: str, flavor: str) -> Any:
    demo = cloud.connect()
    server = demo.compute.create_server(
        name=name, flavor_id=flavor, image_id=cloud.json["images"]["kilonova-guest"]["id"],
        networks=[{"uuid": cloud.json["networks"]["demo"]}],
    )  # fmt: skip
    wait_for(lambda: demo.compute.get_server(server.id).status == "ACTIVE")
    return server


def opened(browser: Browser, url: str) -> Page:
    page = browser.page()
    page.open(url)
    wait_for(lambda: page.status().startswith("connected"), PATIENCE)
    return page


class Terminal:
    """A serial console's page, as a person uses it."""

    def __init__(self, page: Page) -> None:
        self.page, self._runs = page, count(1000)

    def text(self) -> str:
        return self.page.evaluate(ROWS) or ""

    def until(self, word: str, *, typing: str = "") -> str:
        """What the terminal shows once `word` is in it; `typing` is typed again and again meanwhile."""

        def look() -> str:
            self.page.type(typing)
            return text if word in (text := self.text()) else ""

        return str(wait_for(look, PATIENCE))

    def log_in(self) -> None:
        self.until("login:", typing="\n")
        self.page.type("cirros\n")
        self.until("Password:")
        self.page.type("gocubsgo\n")
        self.until("$ ")

    def run(self, command: str) -> str:
        """What the terminal shows after it."""
        number = next(self._runs)
        self.page.type(f"clear; {command}; echo $(({number}+1))th\n")
        return self.until(f"{number + 1}th")


def test_a_person_logs_in_by_the_screen_and_by_the_serial_port(
    cloud: RunningCloud, browser: Browser, tmp_path: Path
) -> None:
    server = create(cloud, "watched", "1")
    shown = cloud.openstack("console", "url", "show", "watched", "-f", "json")
    assert (shown["protocol"], shown["type"]) == ("vnc", "novnc")
    screen = opened(browser, shown["url"])
    address = cloud.openstack("console", "url", "show", "--serial", "watched", "-f", "json")["url"]
    terminal = Terminal(opened(browser, address))
    terminal.log_in()
    assert terminal.page.evaluate(BELOW) <= 0
    on_screen = "sudo cat /dev/vcs1"  # what the guest itself says is on the screen
    wait_for(lambda: "watched login:" in terminal.run(on_screen), PATIENCE)
    wait_for(lambda: screen.evaluate(LIT) > 500)
    screen.screenshot(tmp_path / "login-prompt.png")
    terminal.page.screenshot(tmp_path / "serial.png")

    screen.type("cirros\n")
    wait_for(lambda: "Password:" in terminal.run(on_screen), PATIENCE)
    screen.type("gocubsgo\n")
    wait_for(lambda: "cirros@watched:~$" in terminal.run(on_screen), PATIENCE)
    screen.type("touch byhand\n")
    wait_for(lambda: "byhand" in terminal.run("ls"), PATIENCE)
    screen.screenshot(tmp_path / "typed.png")
    assert screen.complaints == terminal.page.complaints == []

    # One screen may be looked at by several; of a serial port the newest has it.
    other = opened(browser, cloud.kilonova("console", "watched").strip())
    wait_for(lambda: other.evaluate(LIT) > 500)
    newest = Terminal(opened(browser, cloud.kilonova("console", "watched", "--serial").strip()))
    wait_for(lambda: "Somebody else has opened this console." in terminal.page.status())
    assert "byhand" in newest.run("ls")
    assert screen.status() == other.status() == "connected"

    other.click("ctrl-alt-del")
    console = {"os-getConsoleOutput": {}}
    demo = cloud.connect()

    def said() -> str:
        return str(demo.compute.post(f"/servers/{server.id}/action", json=console).json()["output"])

    wait_for(lambda: "Restarting system" in said(), PATIENCE)

    demo.compute.stop_server(server)
    for page in (screen, other, newest.page):
        wait_for(lambda page=page: "The guest has ended the connection." in page.status(), PATIENCE)
        assert page.evaluate("getComputedStyle(document.querySelector('.state')).display") == "none"  # not "ACTIVE"
    wait_for(lambda: demo.compute.get_server(server.id).status == "SHUTOFF", PATIENCE)
    screen.click("reconnect")
    wait_for(lambda: "has expired" in screen.status())
    screen.screenshot(tmp_path / "expired.png")
    assert "vm_state stopped" in cloud.kilonova("console", "watched", code=1)
    demo.compute.delete_server(server)


def test_a_guest_with_one_serial_port_has_both_its_log_and_a_person_there(
    cloud: RunningCloud, browser: Browser
) -> None:
    admin, demo = cloud.connect("kilonova-admin"), cloud.connect()
    flavor = admin.compute.create_flavor(name="one-port", ram=128, vcpus=1, disk=1)
    admin.compute.create_flavor_extra_specs(flavor, {"hw:serial_port_count": "1"})
    server = create(cloud, "single", flavor.id)
    terminal = Terminal(opened(browser, cloud.kilonova("console", "single", "--serial").strip()))
    terminal.until("login:", typing="\n")
    logged = demo.compute.post(f"/servers/{server.id}/action", json={"os-getConsoleOutput": {}}).json()["output"]
    assert "login:" in logged
    demo.compute.delete_server(server)
