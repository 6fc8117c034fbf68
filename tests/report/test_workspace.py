"""The wandb workspace has the report's panels, and the library accepts them."""

from __future__ import annotations

import re
import sys

import pytest

from r1rl.errors import ConfigError
from r1rl.report.panels import PANELS
from r1rl.report.workspace import plot, workspace
from r1rl.tracking.names import METRICS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_library_accepts_the_workspace() -> None:
    pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")
    made = workspace("someone", "r1rl")._to_model()  # what save() would send
    sections = made.spec.section.panel_bank_config.sections
    assert [s.name for s in sections] == list(dict.fromkeys(panel.section for panel in PANELS))
    assert sum(len(s.panels) for s in sections) == len(PANELS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_each_plot_has_a_metric(panel) -> None:
    given = plot(panel)
    names = [name.replace("NAME", "accuracy").replace("SOURCE", "test").replace("OUTCOME", "wrong") for name in METRICS]
    pattern = given.get("metric_regex") or "|".join(map(re.escape, given["y"]))
    assert any(re.search(pattern, name) for name in names)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(ConfigError, match="pip install"):
        workspace("someone", "r1rl")
