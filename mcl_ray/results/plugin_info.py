"""The plugins that a run trained with, stored in its folder as `plugins.json`, for each of its attempts."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mcl_ray.config.plugins import PluginRecord
from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import read_bytes, write_atomically

PLUGINS_FILE = "plugins.json"

_log = logging.getLogger(__name__)


def write_plugins(run_folder: Path, attempt: int, plugins: Sequence[PluginRecord]) -> None:
    """Add the plugins of an attempt; a plugin that is not what it was in the attempt before is named in a warning.

    Args:
        run_folder: Folder of the run.
        attempt: Number of the attempt, from 1.
        plugins: The plugins that the process has imported; without any, nothing is written.

    Raises:
        StoreError: the file is damaged, or cannot be written.
    """
    if not plugins:
        return
    known = read_plugins(run_folder)
    earlier = {plugin.module: plugin for plugin in known[max(known)]} if known else {}
    for plugin in plugins:
        if earlier.get(plugin.module, plugin) != plugin:
            _log.warning("the plugin %s has changed since attempt %d of %s", plugin.module, max(known), run_folder.name)
    content = {str(number): [asdict(one) for one in of_attempt] for number, of_attempt in known.items()}
    content[str(attempt)] = [asdict(plugin) for plugin in plugins]
    write_atomically(run_folder / PLUGINS_FILE, (json.dumps(content, indent=1) + "\n").encode())


def read_plugins(run_folder: Path) -> dict[int, tuple[PluginRecord, ...]]:
    """Return attempt → the plugins that it trained with; empty for a run without plugins.

    Raises:
        StoreError: the file is damaged.
    """
    file = run_folder / PLUGINS_FILE
    if not file.exists():
        return {}
    try:
        content = json.loads(read_bytes(file))
        return {int(number): tuple(PluginRecord(**one) for one in plugins) for number, plugins in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"the record of a run's plugins must be complete, but {file} is damaged: {error}") from error
