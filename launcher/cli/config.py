"""The commands `config show`, `config set` and `config path`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.show.output import Output
from launcher.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = ("engine", "context", "prefer", "reserve", "port", "key-file", "folders")
_LISTS = frozenset({"reserve", "folders"})
_PATHS = frozenset({"engine", "key-file", "folders"})


def show(out: Output) -> None:
    """Show the defaults of the config file, and where they are from."""
    from launcher.cli.show.tables import grid
    from launcher.system.settings import read_settings

    settings = read_settings()
    values: dict[str, object] = {"engine": settings.engine}
    values |= {key: getattr(settings.defaults, key.replace("-", "_")) or None for key in KEYS[1:]}
    rows = [(key, _shown(value)) for key, value in values.items()]
    out.show({"path": settings.config_file, **values}, grid(("key", "value"), rows))
    if not out.as_json:
        out.write(f"{settings.config_file}\n")


def set_default(
    out: Output,
    key: Annotated[
        str,
        typer.Argument(
            help="engine (a llama-server), context (32k), prefer (quality, balanced, speed), "
            "reserve (2G, CUDA0=2G, ram=8G: left free), port (8080), key-file (API keys, one a line) "
            "or folders (of GGUF files).",
            metavar="KEY",
        ),
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="VALUE", help="Without one, the built-in default again.", show_default=False),
    ] = None,
) -> None:
    """Write a default into the config file; its comments stay."""
    from launcher.system.locks import exclusive
    from launcher.system.settings import read_settings

    value = _value(key, values or [])
    settings = read_settings(out.warn)
    file = settings.config_file
    try:
        with exclusive(settings.state_dir / "config.lock"):  # two that set at once both count
            _change(file, key, value)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", hint="launcher config path"
        ) from error
    out.show({"path": file, "key": key, "value": value}, f"{key} = {_shown(value)}")


def _change(file: Path, key: str, value: object | None) -> None:
    """Set a value in the config file. Raises UsageError if it cannot be read, OSError if not written."""
    from launcher.system.atomic_files import write_atomically
    from launcher.system.config_text import TEMPLATE, set_value
    from launcher.system.small_files import read_small_text

    try:
        text = read_small_text(file)
    except FileNotFoundError:
        text = TEMPLATE
    except (OSError, ValueError) as error:
        raise UsageError(
            f"config file {file} cannot be read: {error}", hint=f"mend or remove {file}"
        ) from error
    # a link to a file elsewhere stays one
    write_atomically(file.resolve(), set_value(text, key, value).encode())


def path(out: Output) -> None:
    """Print where the config file is, or would be."""
    from launcher.system.settings import read_settings

    file = read_settings(out.warn).config_file
    out.show_lines({"path": file}, [str(file)])


def _value(key: str, words: list[str]) -> object | None:
    """Return what is written for the words. Raises UsageError for a key or a value that options refuse."""
    from pathlib import Path

    from launcher.plan.workload import Prefer
    from launcher.system.settings import expand_home
    from launcher.units import parse_context, parse_size

    if key not in KEYS:
        raise UsageError(
            f"no default is called {key[:40]!r}",
            hint=f"launcher config set KEY VALUE, with one of {', '.join(KEYS)}",
        )
    if not words:
        return None
    _refuse_unreadable(key, words)
    checks: dict[str, Callable[[str], object]] = {
        "context": parse_context,
        "prefer": Prefer,
        "reserve": lambda text: parse_size(text.rpartition("=")[2]),
        "port": int,
    }
    try:
        for word in words:
            checks.get(key, str)(word)
    except ValueError:
        hint = f"launcher config set {key} {Prefer.BALANCED.value if key == 'prefer' else 8080}"
        raise UsageError(f"{words[0][:40]!r} is no {key}", hint=hint) from None
    if key in _PATHS:
        words = [str(expand_home(Path(word)).absolute()) for word in words]  # it is read in any folder
    if key == "engine" and not Path(words[0]).exists():
        raise UsageError(f"engine {words[0]} does not exist", hint="launcher engine list")
    if key in _LISTS:
        return words
    if len(words) > 1:
        raise UsageError(
            f"{key} has one value, and there are {len(words)}", hint=f"launcher config set {key} VALUE"
        )
    if key == "port" and not 1 <= int(words[0]) <= 65535:
        raise UsageError(f"port {words[0]} is not from 1 to 65535", hint="launcher config set port 8080")
    return int(words[0]) if key == "port" else words[0]


def _refuse_unreadable(key: str, words: list[str]) -> None:
    """Raise UsageError for values that the config file could not have, or is not read with."""
    from launcher.system.settings import MOST_FOLDERS

    if not all(word and word.isprintable() for word in words):  # bytes that are no UTF-8, too
        raise UsageError(
            f"a value of {key} is empty or has characters that nobody can read",
            hint=f"launcher config set {key}, without a value, is the built-in default again",
        )
    if len(words) > MOST_FOLDERS:
        raise UsageError(f"{key} has {len(words)} values, and {MOST_FOLDERS} are the most", hint="name fewer")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
