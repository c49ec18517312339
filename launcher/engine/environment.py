"""Prepare llama-server's environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Beginnings of variables that would silently change llama-server: options by environment (common/arg.cpp,
# set_env) and the child protocol, under which it exits when stdin closes (tools/server/server-models.cpp).
DROPPED = ("LLAMA_ARG_", "LLAMA_API_KEY", "LLAMA_LOG_", "LLAMA_SERVER_", "LLAMA_OFFLINE")


def engine_env(
    environ: Mapping[str, str], added: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the environment for llama-server, and the names dropped from `environ`."""
    dropped = tuple(sorted(name for name in environ if name.startswith(DROPPED)))
    passed_on = {name: value for name, value in environ.items() if name not in dropped}
    return passed_on | dict(added or {}), dropped


def config_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """List llama.cpp's own config files, which llama-server applies silently."""
    # common/arg.cpp, common_params_parse; fs_get_config_directory
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    places = (Path("/etc"), Path(home))
    return tuple(path for place in places if (path := place / "llama.cpp" / "config.ini").is_file())
