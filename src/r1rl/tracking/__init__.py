"""Where metrics, samples and progress go: files always, services by configuration, a console for people."""

from r1rl.tracking.base import NullTracker, Tracker
from r1rl.tracking.build import build_tracker
from r1rl.tracking.console import Console, Progress
from r1rl.tracking.jsonl import read_jsonl
from r1rl.tracking.names import METRICS, Metric, describe

__all__ = [
    "METRICS",
    "Console",
    "Metric",
    "NullTracker",
    "Progress",
    "Tracker",
    "build_tracker",
    "describe",
    "read_jsonl",
]
