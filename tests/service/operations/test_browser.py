"""The operator's page in a real browser, as its reader sees and hears it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import product

import pytest

from tests.tools.apps import LIFE
from tests.tools.browser import Browser, browser, needs_browser, needs_selenium
from tests.tools.service import wait_for

from .conftest import Operate, Operated

pytestmark = [needs_browser, needs_selenium]

TAB, ENTER = "\ue004", "\ue007"  # keys of WebDriver

EVIL = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    raise LookupError('<img src=x onerror="window.hacked = 1">')
"""

# Every text with too little contrast to what is behind it: WCAG 2, 1.4.3.
TOO_PALE = r"""
const rgb = (text) => text.match(/[\d.]+/g).map(Number);
const light = (color) => color.slice(0, 3)
  .map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function behind(element) {
  for (let e = element; e; e = e.parentElement) {
    const color = rgb(getComputedStyle(e).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
}
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const pale = [];
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
  const [a, b] = [rgb(getComputedStyle(element).color), behind(element)].map(light);
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) pale.push([texts.currentNode.data, contrast]);
}
return pale;
"""

# What is wider than the window, and ids that are there twice.
TOO_WIDE = """
return [document.documentElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll("main *, header *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML)]
"""
TWICE = """
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
return ids.filter((id, i) => ids.indexOf(id) !== i);
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as tab:
        yield tab


def opened(tab: Browser, operated: Operated, **how: object) -> Browser:
    tab.show(**how)
    tab.open(operated.url)
    return tab


def test_a_killed_worker_is_seen_without_a_reload(
    operate: Operate, tab: Browser
) -> None:
    operated = operate(LIFE, "-w", "2", wait=2)
    opened(tab, operated).run("window.loaded = true")
    tab.wait("#freshness", "Live")
    killed, other = operated.service.workers()
    tab.wait("#workers", str(killed))
    tab.wait("[role=status].verdict", "Ready: 2 of 2 workers serve")
    operated.service.kill(signal.SIGKILL, killed)
    operated.service.ready(3)
    wait_for(lambda: str(killed) not in tab.text("#workers"), "the dead worker goes")
    for pid in operated.service.workers():
        tab.wait("#workers", str(pid))
    assert str(other) in tab.text("#workers")
    tab.wait("#log", str(killed))  # the arbiter says what it died of
    tab.wait("#service", "1 killed")
    assert tab.run("return window.loaded")


def test_it_follows_a_service_that_ends_and_comes_back_unready(
    operate: Operate, tab: Browser
) -> None:
    operated = operate(LIFE)
    opened(tab, operated)
    tab.wait("#freshness", "Live")
    (operated.service.directory / "hold-request").touch()
    request = operated.service.begin()
    operated.service.wait_said("request")
    operated.service.kill(signal.SIGTERM)
    tab.wait(".verdict", "Not ready: worker 0 is ")
    assert "Not ready" in tab.driver.title
    (operated.service.directory / "hold-request").unlink()
    request.getresponse().read()
    assert operated.service.wait_exit() == 0
    tab.wait("#freshness", "No answer since")


def test_another_worker_goes_on_with_the_page_when_one_hangs(
    operate: Operate, tab: Browser
) -> None:
    """Wholly, as C code that holds the interpreter does: its thread sends nothing."""
    operated = operate(LIFE, "-w", "2", "--timeout", "0", wait=2)
    opened(tab, operated)
    tab.wait("#freshness", "Live")
    for stopped in operated.service.workers():  # one of them sends to the page
        operated.service.kill(signal.SIGSTOP, stopped)
        tab.wait("#workers", "blocked")
        tab.wait("#freshness", "Live")
        operated.service.kill(signal.SIGCONT, stopped)
        tab.wait(".verdict", "Ready: 2 of 2 workers serve")


def test_without_javascript_it_reads(operate: Operate, tab: Browser) -> None:
    operated = operate(LIFE)
    [worker] = operated.service.workers()
    opened(tab, operated, scripts=False)
    assert "reload the page" in tab.text("#freshness")
    assert tab.text("button") == ""
    assert "Ready: 1 of 1 workers serve" in tab.text("main")
    assert str(worker) in tab.text("#workers")
    tab.show()


def test_everybody_can_read_it(operate: Operate, tab: Browser) -> None:
    """In both colours, on a phone too, and with a screen reader."""
    operated = operate(EVIL, "-w", "2", UVWORKER_OPS_REQUESTS="true", wait=2)
    assert operated.service.get("/" + "long" * 30).status_code == 500
    for scheme, width in product(("light", "dark"), (1200, 360)):
        opened(tab, operated, scheme=scheme, width=width)
        tab.wait("#freshness", "Live")
        tab.wait("#log", "LookupError: <img")
        assert tab.run("return window.hacked === undefined")
        assert tab.run(TOO_PALE) == []
        assert tab.run(TOO_WIDE) == [0]
        assert tab.run(TWICE) == []
        assert tab.complaints() == []
        ground = tab.run("return getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, ground[4:-1].split(","))) < 128) is (scheme == "dark")

        heard = tab.tree()
        roles = [node["role"] for node in heard]
        assert {"banner", "main", "contentinfo", "navigation"} <= set(roles)
        assert roles.count("columnheader") == 11
        assert roles.count("rowheader") == 2
        assert roles.count("cell") == 20
        named = {"button", "link", "heading", "image", "region", "columnheader"}
        assert [n for n in heard if n["role"] in named and not n["name"]] == []


def test_it_is_worked_by_keyboard_and_can_be_paused(
    operate: Operate, tab: Browser
) -> None:
    operated = operate(LIFE)
    opened(tab, operated)
    tab.wait("#freshness", "Live")
    focus = "return document.activeElement.textContent"
    tab.press(TAB)
    assert tab.run(focus) == "Skip to the workers"
    tab.press(TAB)
    assert tab.run(focus) == "Pause"
    tab.press(ENTER)
    tab.wait("#freshness", "Paused at")
    pressed = "return document.activeElement.getAttribute('aria-pressed')"
    assert tab.run(pressed) == "true"
    tab.press(ENTER)
    tab.wait("#freshness", "Live")
    assert tab.run(pressed) == "false"


def test_an_update_leaves_the_focus_and_what_is_selected(
    operate: Operate, tab: Browser
) -> None:
    operated = operate(LIFE)
    opened(tab, operated)
    age = "return document.querySelector('#workers [data-head=age]').textContent"
    tab.wait("#freshness", "Live")
    tab.run(
        """
        const cell = document.querySelector("#workers [data-head=pid]");
        getSelection().selectAllChildren(cell);
        document.querySelector("footer a").focus();
        """
    )
    before = tab.run(age)
    wait_for(lambda: tab.run(age) != before, "an update")
    [worker] = operated.service.workers()
    assert tab.run("return getSelection().toString()") == str(worker)
    assert tab.run("return document.activeElement.tagName") == "A"
