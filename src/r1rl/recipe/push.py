"""The final model of a run on the Hugging Face hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi

from r1rl.config import HubConfig
from r1rl.files import MANIFEST
from r1rl.recipe.record import Done

log = logging.getLogger(__name__)


def push_final(hub: HubConfig, final: str, done: Mapping[str, Done], run: Path) -> None:
    """Upload what stage ``final`` made, if it is done; files that are there already are not sent again."""
    if final in done:
        made = done[final].paths(run)
        push(made["folder"] if "folder" in made else made["model"], hub)


def push(folder: Path, hub: HubConfig) -> None:
    """Upload the saved model. A run that trained for days does not fail on its last line: the model stays in its
    folder, and what went wrong is said."""
    api = HfApi()
    try:
        api.create_repo(hub.repo, private=hub.private, exist_ok=True)
        api.upload_folder(repo_id=hub.repo, folder_path=folder, ignore_patterns=[MANIFEST])
    except Exception as error:  # whatever the hub's HTTP and storage clients raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        log.warning(
            f"could not push to {hub.repo} ({reason}); the model is in {folder}, and the same command tries again"
        )
    else:
        log.info(f"pushed {folder} to {hub.repo}")
