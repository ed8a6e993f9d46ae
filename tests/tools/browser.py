"""A real browser, Debian's chromium, for what a person sees of a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from tests.tools.service import wait_for

needs_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium and chromium-driver are not installed",
)
needs_selenium = pytest.mark.skipif(
    find_spec("selenium") is None, reason="selenium is not installed"
)

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # which no container allows
    "--disable-dev-shm-usage",  # 64 MB in a container
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


class Browser:
    """One tab. Its methods read what is on the page now; `wait` waits for it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command of the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def show(
        self, *, scheme: str = "light", width: int = 1200, scripts: bool = True
    ) -> None:
        """Set what the next page finds: colours, the window, and JavaScript."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)

    def open(self, url: str) -> None:
        """Open a page; the console forgets the one before, which may still complain."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what *script* returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the visible text of the elements, by a CSS selector."""
        found = self.driver.find_elements("css selector", selector)
        return "\n".join(element.text for element in found)

    def wait(self, selector: str, text: str) -> None:
        wait_for(lambda: text in self.text(selector), f"{text!r} in {selector}")

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains  # noqa: PLC0415  may be missing

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def complaints(self) -> list[str]:
        """Return what the console has said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def tree(self) -> list[dict[str, Any]]:
        """Return the nodes that a screen reader sees: their roles and names."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [
            {"role": node["role"]["value"], "name": node.get("name", {}).get("value")}
            for node in nodes
            if not node.get("ignored")
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser, and end it."""
    from selenium import webdriver  # noqa: PLC0415  may be missing

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
