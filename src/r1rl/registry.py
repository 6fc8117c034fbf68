"""The tables of what a configuration chooses by name, each open to the user's own ``module:name``.

An entry is ``module:name``, imported when it is used, so that names are checked without torch. A new loss is an object
in a file and a row here; an object in the user's own file needs no row. The table of reward functions is filled by the
entry points of installed packages (:mod:`r1rl.scoring.load`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from r1rl import locate
from r1rl.errors import ConfigError, DataError, R1Error, RewardError

_OWN = re.compile(r"[^\n]+:[A-Za-z_]\w*(\.\w+)*")


class Registry(Mapping[str, Any]):
    """Table of names and the objects they refer to; as a mapping it loads objects on access.

    Args:
        what: the word for an entry in errors, such as ``loss``.
        entries: ``module:name`` by name, or a function that lists them.
        error: raised for an unknown name.
        extra: r1rl's extra that installs what the table's own entries require.
    """

    def __init__(
        self,
        what: str,
        entries: Mapping[str, str] | Callable[[], Mapping[str, str]],
        error: type[R1Error] = ConfigError,
        extra: str = "",
    ) -> None:
        self.what, self.error, self.extra = what, error, extra
        self._entries = entries

    @property
    def entries(self) -> Mapping[str, str]:
        """``module:name`` by name."""
        return self._entries() if callable(self._entries) else self._entries

    def check(self, use: str) -> str:
        """Return ``use`` if it is a name in the table or has the form ``module:name``; a validator for pydantic.

        Raises: ValueError with the known names.
        """
        if _OWN.fullmatch(use) or use in self.entries:
            return use
        near = locate.nearest(use, self.entries)
        raise ValueError(
            f"names no {self.what}{near}{'' if near else ';'} it is one of {', '.join(self.entries)}, or your own by "
            "path/to/file.py:NAME or package.module:NAME"
        )

    def entry(self, use: str) -> str:
        """The ``module:name`` or ``file.py:name`` that ``use`` refers to. Raises ``error`` for an unknown name."""
        if _OWN.fullmatch(use):
            return use
        try:
            return self.entries[use]
        except KeyError:
            raise self.error(self._unknown(use)) from None

    def find(self, use: str) -> locate.Located | None:
        """Where ``use`` is, without importing it; None where only an import can tell. Raises ``error``."""
        entry = self.entry(use)
        try:
            return locate.find(entry)
        except ImportError as error:
            raise self.error(f"{self.what} {error}") from error

    def load(self, use: str) -> Any:
        """The object. Raises ``error`` if it does not exist or its module does not import."""
        entry = self.entry(use)
        try:
            return locate.load(entry)
        except ImportError as error:
            if self.extra and entry != use:
                advice = f"{use} is not installed ({error}); run: pip install 'r1rl[{self.extra}]'"
                raise self.error(f"{self.what} {advice}") from error
            raise self.error(f"{self.what} {error}") from error

    def __getitem__(self, name: str) -> Any:
        self.entries[name]
        return self.load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def _unknown(self, use: str) -> str:
        return (
            f"no {self.what} is called {use!r}{locate.nearest(use, self.entries)}; registered: "
            f"{', '.join(sorted(self.entries))}. Your own is named by path/to/file.py:NAME or package.module:NAME"
        )


KINDS = Registry(
    "kind of stage",
    {
        "pretrain": "r1rl.stages.kinds:PRETRAIN",
        "sft": "r1rl.stages.kinds:SFT",
        "grpo": "r1rl.stages.kinds:GRPO",
        "sample": "r1rl.stages.kinds:SAMPLE",
        "reward_model": "r1rl.stages.kinds:REWARD_MODEL",
        "evaluate": "r1rl.stages.kinds:EVALUATE",
        "export": "r1rl.stages.kinds:EXPORT",
    },
)
"""``kind`` of a stage: a :class:`r1rl.config.kinds.Kind`."""

LOSSES = Registry(
    "loss",
    {
        "grpo": "r1rl.grpo.losses:GRPO",
        "bnpo": "r1rl.grpo.losses:BNPO",
        "dr_grpo": "r1rl.grpo.losses:DR_GRPO",
        "dapo": "r1rl.grpo.losses:DAPO",
        "gspo": "r1rl.grpo.losses:GSPO",
        "cispo": "r1rl.grpo.losses:CISPO",
        "clip_cov": "r1rl.grpo.losses:CLIP_COV",
        "kl_cov": "r1rl.grpo.losses:KL_COV",
    },
)
"""``grpo.loss``: a :class:`r1rl.grpo.losses.Loss`."""

SCALES = Registry(
    "advantage scale",
    {
        "group": "r1rl.grpo.advantages:group_std",
        "batch": "r1rl.grpo.advantages:batch_std",
        "none": "r1rl.grpo.advantages:no_std",
        "rloo": "r1rl.grpo.advantages:leave_one_out",
        "reinforce_pp": "r1rl.grpo.advantages:reinforce_pp",
        "reinforce_pp_baseline": "r1rl.grpo.advantages:reinforce_pp_baseline",
        "maxrl": "r1rl.grpo.advantages:max_likelihood",
    },
)
"""``grpo.scale_rewards``: a :data:`r1rl.grpo.advantages.Scale`."""

ENGINES = Registry(
    "engine",
    {
        "auto": "r1rl.rollout.build:build_auto",
        "torch": "r1rl.rollout.build:build_torch",
        "vllm": "r1rl.rollout.vllm.build:build",
    },
)
"""``rollout.engine``: ``(RunConfig, Policy) -> r1rl.rollout.engine.Engine``."""

TRACKERS = Registry(
    "tracker",
    {
        "wandb": "r1rl.tracking.to_wandb:WandbTracker",
        "trackio": "r1rl.tracking.to_trackio:TrackioTracker",
        "tensorboard": "r1rl.tracking.to_tensorboard:TensorBoardTracker",
    },
    extra="tracking",
)
"""``tracking.report_to``: ``(r1rl.tracking.base.Start) -> r1rl.tracking.base.Tracker``."""

TEMPLATES = Registry(
    "prompt template",
    {name: f"r1rl.data.templates:{name}" for name in ("r1_zero", "raw", "chat")},
)
"""``prompt.template``: a :data:`r1rl.data.templates.Template`."""

SOURCES = Registry(
    "generated source",
    {
        "arithmetic": "r1rl.data.toy.arithmetic:problems",
        "bilingual": "r1rl.data.toy.bilingual:problems",
        "bilingual_preferences": "r1rl.data.toy.bilingual:preferences",
        "bilingual_requests": "r1rl.data.toy.bilingual:requests",
        "countdown": "r1rl.data.countdown:countdown",
        "programs": "r1rl.data.toy.programs:problems",
    },
    DataError,
)
"""``path: generated:NAME``: ``(**args) -> rows``, identical for the same arguments."""

MAPS = Registry(
    "row function",
    {name: f"r1rl.data.published:{name}" for name in ("gpqa", "mbpp", "mmlu_pro")},
    DataError,
)
"""``map`` of a source: ``(row) -> row``, or None to leave it out."""

RUNNERS = Registry(
    "runner of programs",
    {
        "sandbox": "r1rl.programs.pool:SandboxPool",
        "piston": "r1rl.programs.remote:Piston",
        "sandbox_fusion": "r1rl.programs.remote:SandboxFusion",
        "e2b": "r1rl.programs.e2b:E2B",
    },
    RewardError,
)
"""``runner`` of the code reward: ``(workers, limits, **options) -> r1rl.programs.types.Runner``."""
