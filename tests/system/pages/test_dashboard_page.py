"""The dashboard in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from taskensemble.launch.embedded import free_port
from tests.integration.engine.plane import until
from tests.monitored import PASSWORD, finished_run, serving

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed: run tests/system/install.sh"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET.split())
        size = {"width": 1500, "height": 1300}
        credentials = {"username": "taskensemble", "password": PASSWORD}
        opened = browser.new_page(viewport=size, http_credentials=credentials)  # type: ignore[arg-type]
        yield opened
        browser.close()


def test_the_page_shows_a_run_and_the_log_of_the_member_that_was_clicked(tmp_path: Path, page: Page) -> None:
    errors: list[str] = []
    elsewhere: list[str] = []
    url = f"http://127.0.0.1:{(port := free_port())}/"
    page.on("pageerror", lambda error: errors.append(str(error)))
    # What the content security policy forbids is told on the console.
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on(
        "request", lambda request: elsewhere.append(request.url) if not request.url.startswith((url, "data:")) else None
    )
    with (
        finished_run(tmp_path) as run,
        serving(tmp_path, url, "dashboard", "--port", str(port), TASKENSEMBLE_DASHBOARD_PASSWORD=PASSWORD),
    ):
        page.goto(url)
        page.wait_for_selector("#timeline rect", timeout=30000)
        assert run in page.inner_text("#title")
        assert "1 member failed" in page.inner_text("#counters")
        assert page.locator("#scatter circle").count() == 5
        assert page.locator("#parallel polyline").count() == 6
        assert page.locator("#timeline rect").count() == 6
        page.locator("#scatter circle").nth(2).click()
        page.wait_for_selector("#logs:not([hidden])")
        assert page.inner_text("#logtext").strip() == "hello 2"
        page.locator("#failures li").click()
        expect(page.locator("#logname")).to_contain_text("exit status")
        page.select_option("#tint", "params.T")
        assert len({dot.get_attribute("fill") for dot in page.locator("#scatter circle").all()}) == 5
        # Dragging along an axis chooses members: the others fade, until all are asked for again.
        hold = page.locator("#parallel .hold").first
        hold.scroll_into_view_if_needed()
        box = hold.bounding_box()
        assert box
        page.mouse.move(box["x"] + 9, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + 9, box["y"] + box["height"] / 2)
        page.mouse.up()
        page.wait_for_selector("#clear:not([hidden])")
        assert len({line.get_attribute("stroke-opacity") for line in page.locator("#parallel polyline").all()}) > 1
        page.locator("#clear").click()
        page.wait_for_selector("#clear[hidden]", state="attached")
        page.screenshot(path=tmp_path / "dashboard.png")
        page.set_viewport_size({"width": 420, "height": 900})
        until(lambda: page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it fits a phone")
        page.goto("about:blank")
    assert (tmp_path / "dashboard.png").stat().st_size > 10_000
    assert not errors
    assert not elsewhere
