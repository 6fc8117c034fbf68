"""r1rl: the whole DeepSeek-R1 recipe in one command."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Loaded on first use: `import r1rl` and the command line start without torch.
_EXPORTS = {
    "dump_config": "r1rl.config",
    "load_config": "r1rl.config",
    "stage_config": "r1rl.config",
    "RunConfig": "r1rl.config",
    "GRPOTrainer": "r1rl.grpo.trainer",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
