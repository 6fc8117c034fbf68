"""The page in a real browser: nothing goes wrong in it, nothing is fetched, every panel is filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from report_runs import write_run

from r1rl.report import write_page, write_report

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium: apt-get install chromium"),
]

EMPTY_PANELS = """[...document.querySelectorAll('.chart')].filter((chart) => {
  const drawn = (mark) => mark.tagName === 'rect' || mark.getAttribute('d').length > 8;
  return ![...chart.querySelectorAll('svg path, svg rect')].some(drawn);
}).map((chart) => chart.textContent)"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Chromium]:
    with chromium.Chromium() as opened:
        opened.resize(1280, 900)
        yield opened


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


@pytest.mark.parametrize("name", ["one", "seeds", "all"])
def test_it_opens_whole_and_fast(browser: chromium.Chromium, pages: dict[str, Path], name: str) -> None:
    browser.problems.clear()
    browser.requests.clear()
    assert pages[name].stat().st_size < 5_000_000
    assert browser.open(pages[name]) < 2
    assert browser.problems == []
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
    assert len([url for url in browser.requests if url.startswith("file")]) == 1
    assert browser.evaluate("document.querySelectorAll('.chart').length") >= 15
    assert browser.evaluate(EMPTY_PANELS) == []
    assert browser.evaluate("window.hacked === undefined && !document.querySelector('img')")


def test_each_stage_has_its_curves(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["one"])
    browser.evaluate("[...document.querySelectorAll('#controls button')].find((b) => b.textContent === 'base').click()")
    titles = browser.evaluate("[...document.querySelectorAll('.chart h4')].map((h) => h.firstChild.data)")
    assert titles == ["Training loss", "Learning rate"]
    assert browser.evaluate("document.activeElement.textContent") == "base"


def test_the_same_problem_over_training(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["one"])
    moments = browser.evaluate("[...document.querySelectorAll('.completion header b')].map((b) => b.textContent)")
    assert moments[0] == "base-eval"
    assert moments[1] == "zero · step 1"
    assert moments[-1] == "zero-eval"
    assert len(moments) == 14
    assert browser.evaluate("document.querySelectorAll('.completion .thought.tagmark').length") > 10
    browser.evaluate("document.querySelectorAll('.moments button')[5].click()")
    assert browser.evaluate("document.activeElement.id") == "completion-5"


def test_filters(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["one"])
    count = "document.querySelector('.count').textContent"
    choose = """((label, value) => {
      const labels = [...document.querySelectorAll('.filters label')];
      const select = labels.find((l) => l.firstChild.data === label).lastChild;
      select.value = value; select.dispatchEvent(new Event('change'));
    })"""
    browser.evaluate(f"{choose}('Problem', '')")
    assert browser.evaluate(count) == "378 of 378 completions"
    browser.evaluate(f"{choose}('Reward', 'accuracy-')")
    chips = "[...document.querySelectorAll('.completion .chip')].map((chip) => chip.textContent)"
    assert "accuracy 0" in browser.evaluate(chips)
    assert "accuracy 1" not in browser.evaluate(chips)
    browser.evaluate(f"{choose}('Reward', '')")
    browser.evaluate("document.querySelector('input[type=search]').value = 'window.hacked'")
    browser.evaluate("document.querySelector('input[type=search]').dispatchEvent(new Event('input'))")
    assert browser.evaluate(count) == "1 of 378 completions"
    text = browser.evaluate("document.querySelector('.completion pre').textContent")
    assert "</script><script>window.hacked = 1</script>" in text
    assert "\\x1b[31m\\u202e" in text
    assert browser.evaluate("document.querySelectorAll('.completion pre *:not(span)').length") == 0


def test_hiding_a_run_leaves_the_others(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["all"])
    legend = "[...document.querySelector('.chart .legend').children].map((c) => c.textContent)"
    assert browser.evaluate(legend) == ["zero, 3 seeds", "kl"]
    browser.evaluate("[...document.querySelectorAll('#controls button')].find((b) => b.textContent === 'kl').click()")
    assert "kl" not in browser.evaluate("[...document.querySelectorAll('.legend span')].map((l) => l.textContent)")
    assert browser.evaluate(EMPTY_PANELS) == []


def test_all_of_it_is_reached_by_keyboard(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["one"])
    reached = set()
    for _ in range(60):
        browser.press("Tab", 9)
        reached.add(browser.evaluate("document.activeElement.tagName.toLowerCase()"))
    assert {"a", "button", "input", "svg", "select", "div"} <= reached
    browser.evaluate("document.querySelector('.chart svg').focus()")
    browser.press("End", 35)
    spoken = browser.evaluate("document.getElementById('live').textContent")
    assert spoken.startswith("step 120: 1.")
    browser.press("ArrowLeft", 37)
    assert browser.evaluate("document.getElementById('live').textContent").startswith("step 119")
    unnamed = """[...document.querySelectorAll('button, select, input, svg')]
      .filter((e) => !e.textContent && !e.getAttribute('aria-label') && !e.closest('label')).length"""
    assert browser.evaluate(unnamed) == 0


def test_light_dark_and_chosen(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(pages["one"])
    light = browser.evaluate(paper)
    browser.media(scheme="dark")
    dark = browser.evaluate(paper)
    assert dark != light
    browser.evaluate("(() => { const t = document.getElementById('theme'); t.click(); t.click(); })()")
    assert browser.evaluate(paper) == light
    browser.media(scheme="light")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_width_needs_scrolling_sideways(browser: chromium.Chromium, pages: dict[str, Path], width: int) -> None:
    browser.resize(width, 800, phone=width < 500)
    browser.open(pages["all"])
    assert browser.evaluate(WIDER) <= 0
    browser.resize(1280, 900)


def test_printed_it_is_black_on_white_and_whole(browser: chromium.Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["one"])
    browser.media("print", "dark")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.media()
    assert browser.pdf().count(b"/Type /Page\n") >= 4
