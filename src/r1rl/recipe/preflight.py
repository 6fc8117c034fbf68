"""Finds what a later stage would fail on before the first one starts, as hours of training may lie between."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from operator import attrgetter

import torch

from r1rl.config import DatasetConfig
from r1rl.config.references import references_in
from r1rl.data.sources import look
from r1rl.distributed.processor import has_bfloat16
from r1rl.errors import DataError, RewardError
from r1rl.recipe.graph import Node
from r1rl.scoring.processes import look_for

log = logging.getLogger(__name__)


def preflight(nodes: Collection[Node]) -> None:
    """Look for the local files, generators and reward functions that the stages name, and warn of a precision that this
    machine only emulates.

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
    _precision(nodes)


def _precision(nodes: Iterable[Node]) -> None:
    computing = (node for node in nodes if "model" in node.row.uses and not node.row.exports)
    on_cpu = [node for node in computing if node.view.device == "cpu" or not torch.cuda.is_available()]
    slow = [node.name for node in on_cpu if node.view.model.dtype == "bfloat16"]
    if slow and has_bfloat16() is False:
        log.warning(
            f"model.dtype: bfloat16 will be slow in {', '.join(slow)}: this processor has no bfloat16 instructions, "
            "and torch emulates them (an update took ten times as long as in float32); use model.dtype: float32 on "
            "this machine"
        )


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
