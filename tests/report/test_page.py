"""The page as text, the command and the picture."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1rl.cli import main
from r1rl.errors import DataError, ForeignError
from r1rl.report import write_page, write_report
from r1rl.report.command import report
from r1rl.report.page import page
from r1rl.report.read import RunFolder, Stage, read_run
from r1rl.report.svg import DEFAULT_METRICS, learning_curve
from r1rl.tracking.console import visible
from tests.support.report_runs import HOSTILE, write_run

ASSETS = Path(__file__).parents[2] / "src/r1rl/report/assets"


class Elements(HTMLParser):
    """Every element with its attributes, and the JSON for the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][1].get("id") == "data" and not self.data:
            self.data = data


def test_one_file_that_needs_nothing_else(run_dir: Path) -> None:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    text = path.read_text()
    elements = Elements(text)
    names = [name for name, _ in elements.found]
    assert names.count("script") == 2
    assert "img" not in names  # what a model wrote stays text
    links = [v for _, a in elements.found for k, v in a.items() if k in ("src", "href") and v]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in text.split("</style>")[0]
    policy = [a["content"] for name, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy[0])
    assert not list(run_dir.glob(".*.partial"))


@settings(deadline=None, max_examples=20)
@given(st.text())
@example(HOSTILE)
@example("\u2028</script><!--<script>&amp;'\"")
def test_no_text_becomes_markup(text: str) -> None:
    """Whatever names, settings and completions say, the page has the same elements, and the scripts get the text."""

    def parsed(text: str) -> Elements:
        settings = {"kind": text, "model": text}
        metrics = [{"step": 1, "reward/mean": 1.0, f"reward/{text}": 1.0}]
        samples = [{"step": 1, "problem": text, "prompt": text, "completion": text, "reward": 1.0}]
        stage = Stage("zero", "grpo", settings, metrics=metrics, samples=samples)
        evaluated = Stage(text, "evaluate", settings, results={"held_out/pass@1": 0.5})
        runs = [RunFolder(Path("x"), text, {"seed": i, "note": [text, i]}, [stage, evaluated]) for i in range(2)]
        return Elements(page(runs, now=0.0))

    plain, hostile = parsed("text"), parsed(text)
    assert [(name, [*attributes]) for name, attributes in hostile.found] == [
        (name, [*attributes]) for name, attributes in plain.found
    ]
    assert not set("<>&") & set(hostile.data)
    assert json.loads(hostile.data)["samples"][0]["completion"] == visible(text)


def test_texts_of_a_model_reach_the_page_as_data_alone(run_dir: Path) -> None:
    text = write_report(run_dir).read_text()
    assert "<img" not in text
    data = json.loads(Elements(text).data)
    assert any("window.hacked" in sample["completion"] for sample in data["samples"])
    script = ASSETS.glob("*.js")
    banned = re.compile(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|https?://(?!www\.w3\.org)"
    )
    assert [file.name for file in script if banned.search(file.read_text())] == []


def test_code_by_others_is_what_its_list_says(run_dir: Path) -> None:
    vendor = ASSETS / "vendor"
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", (vendor / "README.md").read_text(), re.MULTILINE))
    files = [file for file in vendor.iterdir() if file.name != "README.md"]
    assert listed == {hashlib.sha256(file.read_bytes()).hexdigest(): file.name for file in files}
    text = write_report(run_dir).read_text()
    for licence in vendor.glob("*.LICENSE.txt"):
        assert licence.read_text() in text


def test_a_page_of_several_runs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"zero-seed{seed}", seed, steps=30) for seed in range(3)]
    text = write_page([*runs, write_run(tmp_path / "half", 0, until=60)], tmp_path / "new" / "all.html").read_text()
    assert "zero, 3 seeds" in text
    assert "mean ± standard deviation" in text
    assert "grpo.steps" in text
    assert "60 of 120" in text


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "young", until=1)
    assert "Too early to say" in write_report(folder).read_text()
    (folder / "zero" / "metrics.jsonl").write_text("")
    (folder / "base" / "metrics.jsonl").write_text("")
    assert "Nothing yet" in write_report(folder).read_text()


def test_a_thousand_steps_of_three_seeds_stay_small(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"seed{seed}", seed, steps=1000) for seed in range(3)]
    assert write_page(runs, tmp_path / "three.html").stat().st_size < 5_000_000
    assert write_report(runs[0]).stat().st_size < 2_000_000


def test_the_command(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "pictures" / "curve.svg"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(run_dir), "--svg", str(picture)])
    assert ended.value.code == 0
    assert f"wrote {run_dir / 'report.html'}" in capsys.readouterr().out
    assert picture.is_file()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "is not a folder" in capsys.readouterr().err


def test_it_starts_without_torch(run_dir: Path) -> None:
    code = "import sys, r1rl.report; from pathlib import Path; r1rl.report.write_report(Path(sys.argv[1]))"
    check = f"{code}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check, str(run_dir)], check=True, capture_output=True)


def test_the_picture_is_an_image_that_shows_what_it_says(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / f"zero-seed{seed}", seed, steps=30)) for seed in range(2)]
    root = ElementTree.fromstring(learning_curve(runs, DEFAULT_METRICS))
    text = " ".join(root.itertext())
    assert "accuracy" in text
    assert "2 seeds" in text
    paths = [element.attrib["d"] for element in root.iter("{http://www.w3.org/2000/svg}path")]
    assert len(paths) == 2 * (2 + 1)  # a thin line a seed and a bold mean, for each metric
    assert "prefers-color-scheme: dark" in text
    with pytest.raises(DataError, match="--metric"):
        learning_curve(runs, ["no/such"])


def test_a_page_of_somebody_else_is_left_alone(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "report.html"
    mine.write_text("<p>my own page about r1rl</p>")
    (tmp_path / "curve.svg").write_text("<svg/>")
    with pytest.raises(ForeignError, match=r"report.html was not written by r1rl and is left alone"):
        report([run_dir, run_dir])  # into the current folder
    with pytest.raises(ForeignError, match=r"curve.svg was not written by r1rl"):
        report([run_dir], tmp_path / "other.html", tmp_path / "curve.svg")
    assert mine.read_text() == "<p>my own page about r1rl</p>"
    assert (tmp_path / "curve.svg").read_text() == "<svg/>"
    for _ in range(2):  # our own are renewed
        report([run_dir], tmp_path / "ours.html", tmp_path / "ours.svg")
