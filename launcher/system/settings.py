"""Read the environment, folders and config file, for the outermost layers only."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

import launcher
from launcher.errors import UsageError
from launcher.system.small_files import read_small_text

# Variables (LAUNCHER_* win over the config file, which is `config.toml` in the config folder):
#   LAUNCHER_ENGINE   a llama-server to use as it is (config: engine = "/path/llama-server")
#   LAUNCHER_IGNORE_CLAIMS     users, by comma, whose claims on memory plans do not count
#   LAUNCHER_HOME     one folder for cache, state and config together, instead of the XDG folders
#   XDG_CACHE_HOME, XDG_STATE_HOME, XDG_CONFIG_HOME     as the XDG base directory specification says
#   HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE     read by huggingface_hub itself

_KNOWN_KEYS = {"engine", "gateway", "models", "defaults"}
MOST_FOLDERS = 64

IGNORE_CLAIMS = "LAUNCHER_IGNORE_CLAIMS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the config file has in [defaults]: used where nothing is typed. None: not set."""

    context: str | int | None = None
    prefer: str | None = None
    reserve: tuple[str, ...] = ()
    port: int | None = None
    key_file: str | None = None
    folders: tuple[str, ...] = ()  # with GGUF files of the user's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are kept on this machine."""

    cache_dir: Path  # can be made again: engines, files of wheels
    state_dir: Path  # about servers that run now
    config_file: Path
    engine: Path | None
    defaults: Defaults = Defaults()
    isolated: bool = False  # LAUNCHER_HOME names one folder for everything
    ignored_claims: tuple[str, ...] = ()  # users, by name or id, whose claims on memory do not count

    @property
    def engines_dir(self) -> Path:
        return self.cache_dir / "engines"

    @property
    def models_dir(self) -> Path:
        # files that are not in the Hub's own cache
        return self.cache_dir / "models"

    @property
    def deployments_dir(self) -> Path:
        return self.state_dir / "deployments"

    @property
    def gateway_dir(self) -> Path:
        return self.state_dir / "gateway"

    @property
    def history_file(self) -> Path:
        # one line a load, planned and measured
        return self.state_dir / "history.jsonl"

    @property
    def measured_file(self) -> Path:
        # what `probe --measure` found
        return self.state_dir / "measured.json"

    @property
    def bench_file(self) -> Path:
        # one line a measurement of `bench`
        return self.state_dir / "bench.jsonl"

    @property
    def tuned_file(self) -> Path:
        # one line a result of `tune`
        return self.state_dir / "tuned.jsonl"

    @property
    def claims_dir(self) -> Path:
        """Claims on memory, shared between the users of this host unless `isolated`."""
        place = Path("/dev/shm")  # noqa: S108  claims are on the host, and end with it
        if self.isolated or not place.is_dir():
            return self.state_dir / "claims"
        return place / "launcher-claims"

    @property
    def own_profiles_dir(self) -> Path:
        """The user's own profiles, which win over shipped ones by name."""
        return self.config_file.parent / "profiles"


def read_settings(broken: Callable[[UsageError], None] | None = None) -> Settings:
    """Read the settings of this process.

    A config file that does not parse is a UsageError: raised, or passed to `broken` and then ignored.
    """
    home = os.environ.get("LAUNCHER_HOME")
    dirs = platformdirs.PlatformDirs("launcher", appauthor=False)
    cache, state, config = (
        (Path(home) / "cache", Path(home) / "state", Path(home) / "config")
        if home
        else (dirs.user_cache_path, dirs.user_state_path, dirs.user_config_path)
    )
    config_file = config / "config.toml"
    try:
        engine, defaults = _engine_of(config_file), read_defaults(config_file)
    except UsageError as error:
        if broken is None:
            raise
        broken(error)
        engine, defaults = None, Defaults()
    return Settings(
        cache_dir=cache,
        state_dir=state,
        config_file=config_file,
        engine=engine,
        defaults=defaults,
        isolated=home is not None,
        ignored_claims=tuple(filter(None, os.environ.get(IGNORE_CLAIMS, "").split(","))),
    )


def _engine_of(config_file: Path) -> Path | None:
    engine = os.environ.get("LAUNCHER_ENGINE") or read_config(config_file).get("engine")
    return expand_home(Path(engine)) if engine else None


def own_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders of the user's own GGUF files. Raises UsageError for the home of an unknown user."""
    return tuple(expand_home(Path(folder)) for folder in settings.defaults.folders)


def read_defaults(config_file: Path) -> Defaults:
    """Return the config file's [defaults]. Raises UsageError for an unknown key or another type."""
    given = read_config(config_file).get("defaults", {})
    if not isinstance(given, dict):
        raise UsageError(
            f"config file {config_file}: defaults is no table", hint=f"mend {config_file}: write [defaults]"
        )
    known = {field.name.replace("_", "-"): field.name for field in fields(Defaults)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                f"config file {config_file} has the unknown key {key[:80]!r} in [defaults]",
                hint=f"mend {config_file}: known keys are {', '.join(known)}",
            )
        values[known[key]] = _typed(config_file, key, value)
    return Defaults(**values)


def _typed(config_file: Path, key: str, value: object) -> object:
    """Return a value of [defaults] if it has its key's type."""
    if key in {"reserve", "folders"}:
        if isinstance(value, list) and len(value) <= MOST_FOLDERS and all(isinstance(v, str) for v in value):
            return tuple(value)
        kind = f"a list of at most {MOST_FOLDERS} strings"
    elif key == "port":
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
            return value
        kind = "a port from 1 to 65535"
    else:
        if isinstance(value, str) or (key == "context" and type(value) is int and value > 0):
            return value or None
        kind = "a string"
    raise UsageError(f"config file {config_file}: {key} is not {kind}", hint="launcher config show")


def expand_home(path: Path) -> Path:
    """Expand `~` and `~name` at the start of a path. Raises UsageError for an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: this system knows no home folder for {path.parts[0]}",
            hint="write the whole path, or ./~…",
        ) from None


def profiles_dir() -> Path:
    """Return the folder of the shipped profiles."""
    package = Path(launcher.__file__).parent
    inside = package / "_profiles"  # in a wheel; in a checkout they are beside the package
    return inside if inside.is_dir() else package.parent / "profiles"


def read_config(path: Path) -> dict[str, Any]:
    """Return the config file, an empty one if there is none; `gateway` and `models` are not looked into.

    Raises UsageError if it does not parse, or has unknown keys.
    """
    try:
        config = tomllib.loads(read_small_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        # not UTF-8, not TOML, digits or brackets without end
        raise UsageError(
            f"config file {path} cannot be read: {error}", hint=f"mend or remove {path}"
        ) from error
    unknown = sorted(set(config) - _KNOWN_KEYS)
    if unknown:
        known = ", ".join(sorted(_KNOWN_KEYS))
        raise UsageError(
            f"config file {path} has the unknown key {unknown[0]!r}",
            hint=f"mend {path}: known keys are {known}",
        )
    if not isinstance(config.get("engine", ""), str):
        raise UsageError(
            f"config file {path}: engine is not a string",
            hint=f'mend {path}: write engine = "/path/llama-server"',
        )
    return config
