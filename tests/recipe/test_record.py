from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from r1rl.recipe.record import write_json


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", {"a": {"x": math.nan, "y": [math.inf, 1]}, "b": np.float64(2.5)})
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text) == {"a": {"x": None, "y": [None, 1]}, "b": 2.5}
    assert "NaN" not in text
