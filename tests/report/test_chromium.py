"""The page in a real browser: nothing goes wrong in it, nothing is fetched, every panel is filled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from r1rl.report import write_page, write_report
from tests.support.report_runs import write_run
from tests.support.waits import HANG_S

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium"),
]

EMPTY_PANELS = """[...document.querySelectorAll('.chart')].filter((chart) => {
  const canvas = chart.querySelector('canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let coloured = 0;  // lines and columns have a hue, the axes are grey
  for (let i = 0; i < pixels.length; i += 4) {
    const [red, green, blue, alpha] = pixels.slice(i, i + 4);
    if (alpha > 40 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) coloured += 1;
  }
  return coloured < 30;
}).map((chart) => chart.textContent)"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PAPER = "getComputedStyle(document.body).backgroundColor"
FOCUSED = "document.activeElement"
READY = "html[data-ready=true]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; without its own sandbox, which does not start for root."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"], timeout=HANG_S * 1000)
        yield opened
        opened.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(HANG_S * 1000)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run, and three seeds of 1,000 steps beside another experiment."""
    base = tmp_path_factory.mktemp("runs")
    seeds = [write_run(base / f"zero-seed{seed}", seed, steps=1000) for seed in range(3)]
    other = write_run(base / "kl", 0, beta=0.01)
    one = write_report(write_run(base / "one"))
    return {
        "one": one,
        "seeds": write_page(seeds, base / "s.html"),
        "all": write_page([*seeds, other], base / "a.html"),
    }


def visit(page: Page, file: Path) -> None:
    """Opens the file and waits until its scripts have drawn it."""
    page.goto(file.resolve().as_uri())
    page.locator(READY).wait_for(state="attached")


def control(page: Page, name: str) -> Locator:
    return page.locator("#controls").get_by_role("button", name=name, exact=True)


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_text_contents()


@pytest.mark.parametrize("name", ["one", "seeds", "all"])
def test_it_opens_whole_and_fast(page: Page, pages: dict[str, Path], name: str) -> None:
    browsing = page.context.new_cdp_session(page)
    browsing.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU seconds
    assert pages[name].stat().st_size < 5_000_000
    visit(page, pages[name])
    spent: dict[str, Any] = {m["name"]: m["value"] for m in browsing.send("Performance.getMetrics")["metrics"]}
    assert 0 < spent["TaskDuration"] < 2
    assert page.page_errors() == []
    assert [message.text for message in page.console_messages()] == []
    urls = [request.url for request in page.requests()]
    assert {url.split(":")[0] for url in urls} <= {"file", "data"}
    assert len([url for url in urls if url.startswith("file")]) == 1
    assert page.locator(".chart").count() >= 15
    assert page.evaluate(EMPTY_PANELS) == []
    assert page.evaluate("window.hacked === undefined && !document.querySelector('img')")


def test_each_stage_has_its_curves(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["one"])
    control(page, "base").click()
    titles = page.evaluate("[...document.querySelectorAll('.chart h4')].map((h) => h.firstChild.data)")
    assert titles == ["Training loss", "Learning rate"]
    assert page.evaluate(f"{FOCUSED}.textContent") == "base"


def test_the_same_problem_over_training(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["one"])
    moments = texts(page, ".completion header b")
    assert moments[0] == "base-eval"
    assert moments[1] == "zero · step 1"
    assert moments[-1] == "zero-eval"
    assert len(moments) == 14
    assert page.locator(".completion .thought.tagmark").count() > 10
    page.locator(".moments button").nth(5).click()
    assert page.evaluate(f"{FOCUSED}.id") == "completion-5"


def test_filters(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["one"])
    count = page.locator(".count")
    page.get_by_role("combobox", name="Problem").select_option("")
    assert count.text_content() == "378 of 378 completions"
    page.get_by_role("combobox", name="Reward").select_option("accuracy-")
    chips = texts(page, ".completion .chip")
    assert "accuracy 0" in chips
    assert "accuracy 1" not in chips
    page.get_by_role("combobox", name="Reward").select_option("")
    page.get_by_label("Contains").fill("window.hacked")
    assert count.text_content() == "1 of 378 completions"
    text = page.locator(".completion pre").text_content() or ""
    assert "</script><script>window.hacked = 1</script>" in text
    assert "\\x1b[31m\\u202e" in text
    assert page.locator(".completion pre *:not(span)").count() == 0


def test_hiding_a_run_leaves_the_others(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["all"])
    assert page.locator(".chart").first.locator(".u-series:not(.quiet) .u-label").all_text_contents()[1:] == [
        "zero, 3 seeds",
        "kl",
    ]
    control(page, "kl").click()
    assert "kl" not in texts(page, ".u-legend .u-label")
    assert page.evaluate(EMPTY_PANELS) == []


def test_all_of_it_is_reached_by_keyboard(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["one"])
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(f"{FOCUSED}.tagName.toLowerCase()"))
    assert {"a", "button", "input", "select", "div"} <= reached
    spoken = page.locator("#live")
    page.locator(".chart .u-wrap").first.focus()
    page.keyboard.press("End")
    assert (spoken.text_content() or "").startswith("step 120: 1.")
    page.keyboard.press("ArrowLeft")
    assert (spoken.text_content() or "").startswith("step 119")
    page.keyboard.press("+")  # zooms around the step read
    assert step_read(page, 2) > 30
    page.keyboard.press("Escape")
    assert step_read(page, 2) < 10
    unnamed = """[...document.querySelectorAll('button, select, input, .u-wrap')]
      .filter((e) => !e.textContent && !e.getAttribute('aria-label') && !e.closest('label')).length"""
    assert page.evaluate(unnamed) == 0


def test_the_pointer_reads_all_charts_at_one_step_and_zooms_them(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["all"])
    step = page.locator(".chart .u-series:first-child .u-value")
    assert step.first.text_content() == "1,000"  # at rest the newest values
    area = page.locator(".chart .u-over").first
    area.hover(position={"x": 100, "y": 40})
    expect(step.first).not_to_have_text("1,000")
    read = step.first.text_content() or ""
    expect(step.nth(1)).to_have_text(read)
    value = page.locator(".chart").first.locator(".u-series:not(.quiet) .u-value").nth(1)
    assert 0 < float(value.text_content() or "") < 2
    before = area.bounding_box()
    assert before is not None
    left, middle = before["x"], before["y"] + 40
    page.mouse.move(left + 40, middle)
    page.mouse.down()
    page.mouse.move(left + 140, middle, steps=5)
    page.mouse.up()
    assert step_read(page, before["width"] - 2) < 400
    area.dblclick(position={"x": 2, "y": 40})
    assert step_read(page, before["width"] - 2) > 900


def step_read(page: Page, x: float) -> int:
    """The step under the pointer in the first chart, ``x`` pixels from its left edge."""
    step = page.locator(".chart .u-series:first-child .u-value").first
    page.mouse.move(0, 0)
    last = page.locator(".chart .u-series:first-child .u-value").last.text_content() or ""
    expect(step).to_have_text(last)  # the pointer has left: the newest step
    page.locator(".chart .u-over").first.hover(position={"x": x, "y": 40})
    expect(step).not_to_have_text(last)
    return int((step.text_content() or "").replace(",", ""))


def test_light_dark_and_chosen(page: Page, pages: dict[str, Path]) -> None:
    page.emulate_media(color_scheme="light")
    visit(page, pages["one"])
    light = page.evaluate(PAPER)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(PAPER)
    assert dark != light
    page.locator("#theme").click(click_count=2)
    assert page.evaluate(PAPER) == light


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_width_needs_scrolling_sideways(browser: Browser, pages: dict[str, Path], width: int) -> None:
    screen = browser.new_page(viewport={"width": width, "height": 800}, is_mobile=width < 500)
    visit(screen, pages["all"])
    assert screen.evaluate(WIDER) <= 0
    screen.context.close()


def test_printed_it_is_black_on_white_and_whole(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["one"])
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(PAPER) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.emulate_media(media="null")
    assert page.pdf(print_background=True).count(b"/Type /Page\n") >= 4
