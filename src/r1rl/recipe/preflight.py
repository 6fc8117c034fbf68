"""Finds what a later stage would fail on before the first one starts, as hours of training may lie between."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from r1rl.config import DatasetConfig
from r1rl.config.references import references_in
from r1rl.data.sources import look
from r1rl.errors import DataError, RewardError
from r1rl.recipe.graph import Node
from r1rl.scoring.processes import look_for


def preflight(nodes: Iterable[Node]) -> None:
    """Look for the local files, generators and reward functions that the stages name.

    What an earlier stage makes, and what is on the Hugging Face hub, is checked by the stage itself.

    Raises:
        DataError, RewardError: something is missing; the message begins with the stage.
    """
    for node in nodes:
        try:
            _data(node)
            _rewards(node)
        except (DataError, RewardError) as error:
            raise type(error)(f"stage {node.name}: {error}") from error


def _data(node: Node) -> None:
    data = node.view.data
    uses, sources = node.row.uses, list[DatasetConfig]()
    if "data" in uses:
        sources += [*data.train.values(), *data.held_out.values()]
    if "data" in uses or "data.eval" in uses:
        sources += data.eval.values()
    for key in node.row.mixes:
        sources += attrgetter(key)(node.view).values()
    for source in sources:
        if not references_in(source.path):
            look(source)


def _rewards(node: Node) -> None:
    if "rewards" not in node.row.uses:
        return
    look_for({name: r for name, r in node.view.rewards.items() if not references_in(r.function or name)})
