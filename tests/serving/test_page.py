"""The page of the image server, in Debian's Chromium."""

import io
import os
import shutil

import pytest
import torch
from PIL import Image

from tests.extras import needs
from tests.serving.painter import SIZE, Painter
from tests.serving.served import served

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.soak,
    needs("gradio"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]
WINDOWS = {"wide": (1400, 900), "narrow": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server():
    with served(page=True, painters={"painter": Painter(0.3)}) as running:
        yield running


def _open(page, url: str) -> None:
    page.goto(url)
    page.locator("#generate").wait_for(timeout=60_000)
    page.wait_for_timeout(1500)  # Gradio fills its fields once more


@pytest.mark.parametrize("window", WINDOWS)
def test_a_person_types_generates_sees_and_downloads(browser, server, window, tmp_path):
    width, height = WINDOWS[window]
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    page = context.new_page()
    foreign: list[str] = []
    page.on(
        "request",
        lambda request: request.url.startswith((server.url, "data:", "blob:")) or foreign.append(request.url),
    )
    _open(page, server.url)
    page.locator("#prompt textarea").fill("a cat 🐈")
    page.locator("#seed input").fill("7")
    page.get_by_label("number input for Steps").fill("8")
    # Every text that the progress has had, noted in the page itself: polling from here could miss some.
    page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => window.seen.push(document.querySelector('#progress')
        .innerText.trim())).observe(document.body, {childList: true, subtree: true, characterData:
        true}); }"""
    )
    page.locator("#generate").click()
    image = page.locator("#gallery img").first
    image.wait_for(timeout=60_000)
    steps = {text for text in page.evaluate("window.seen") if text.startswith("step ")}
    assert len(steps) >= 3 and all(text.endswith("of 8") for text in steps), steps
    page.wait_for_timeout(500)
    if directory := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{directory}/page-{window}.png", full_page=True)
    assert "a cat 🐈 | 64x32, 8 steps, guidance 4.5, seed 7" in page.locator("#gallery").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than its window"
    with page.expect_download() as waiting:
        page.locator("#gallery").get_by_label("Download").first.click()
    waiting.value.save_as(tmp_path / "picture.png")
    drawn = Image.open(io.BytesIO((tmp_path / "picture.png").read_bytes())).convert("RGB")
    assert drawn == Painter.paint("a cat 🐈", "", torch.Generator().manual_seed(7), *SIZE)
    assert not foreign, "the page asks others than its server"
    context.close()


def test_a_refusal_is_shown_and_the_page_goes_on(browser, server):
    page = browser.new_page()
    _open(page, server.url)
    page.locator("#generate").click()
    page.get_by_role("alert").get_by_text("prompt").wait_for(timeout=30_000)
    page.locator("#prompt textarea").fill("a <b>cat</b>")
    page.locator("#generate").click()
    page.locator("#gallery img").first.wait_for(timeout=60_000)
    page.close()


def test_a_key_is_asked_for_and_used(browser):
    with served(page=True, keys=["secret"]) as server:
        page = browser.new_page()
        _open(page, server.url)
        page.locator("#prompt textarea").fill("a cat")
        page.locator("#generate").click()
        page.get_by_role("alert").get_by_text("API key").wait_for(timeout=30_000)
        page.locator("#key input").fill("secret")
        page.locator("#generate").click()
        page.locator("#gallery img").first.wait_for(timeout=60_000)
        page.close()


def test_stop_ends_the_drawing(browser, server):
    painter, model = server.painters["painter"], server.models["painter"]
    page = browser.new_page()
    _open(page, server.url)
    page.locator("#prompt textarea").fill("stopped")
    page.get_by_label("number input for Steps").fill("100")
    page.locator("#generate").click()
    page.get_by_text("step 2 of 100").wait_for(timeout=30_000)
    page.locator("#stop").click()
    page.wait_for_function("() => document.querySelector('#progress').innerText.trim() === ''", timeout=30_000)
    for _ in range(100):
        if model.open == 0:
            break
        page.wait_for_timeout(100)
    assert model.open == 0
    before = painter.steps
    page.wait_for_timeout(1500)
    assert painter.steps <= before + 1
    page.close()
