"""The same panels as a workspace of Weights & Biases: ``python -m r1rl.report.workspace ENTITY PROJECT``.

Needs ``wandb-workspaces`` and a login. Building the workspace is tested; saving it needs the service and is not.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from r1rl.errors import ConfigError, R1Error
from r1rl.report.panels import PANELS, Panel
from r1rl.tracking.names import METRICS


def workspace(entity: str, project: str, name: str = "r1rl") -> Any:
    """The workspace, not saved: one section of panels for each section of the report, the first one open.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise ConfigError(f"a workspace needs wandb-workspaces ({error}); run: pip install 'r1rl[tracking]'") from error
    sections = [
        workspaces.Section(
            name=section,
            panels=[reports.LinePlot(**plot(panel)) for panel in PANELS if panel.section == section],
            is_open=index == 0,
        )
        for index, section in enumerate(dict.fromkeys(panel.section for panel in PANELS))
    ]
    settings = workspaces.WorkspaceSettings(group_by_prefix="first")
    return workspaces.Workspace(entity=entity, project=project, name=name, sections=sections, settings=settings)


def plot(panel: Panel) -> dict[str, Any]:
    """A panel as arguments of wandb's line plot; the patterns of the report become one regular expression."""
    arguments: dict[str, Any] = {"title": panel.title, "x": "Step", "range_y": (panel.low, panel.high)}
    if panel.kind == "shares":
        phases = [name for name in METRICS if name.startswith("time/") and name != "time/step"]
        return arguments | {"y": phases, "plot_type": "pct-area"}
    if set("".join(panel.metrics)) & set("()[]+*?|\\"):
        return arguments | {"metric_regex": f"^(?:{'|'.join(panel.metrics)})$"}
    return arguments | {"y": list(panel.metrics)}


def save(
    entity: Annotated[str, typer.Argument(help="User or team.")],
    project: Annotated[str, typer.Argument(help="As tracking.project in the configuration.")] = "r1rl",
) -> None:
    """Save a workspace with the panels of the report to wandb and print its address."""
    made = workspace(entity, project)
    try:
        made.save()
    except Exception as error:  # whatever the service or the network answers
        raise R1Error(f"wandb did not take the workspace: {error}; is there a login (wandb login)?") from error
    print(made.url)


if __name__ == "__main__":
    typer.run(save)
