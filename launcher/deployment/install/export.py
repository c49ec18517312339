"""A planned server to run elsewhere, written as systemd unit or script. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from launcher.engine.flags.listening import listening
from launcher.engine.flags.taskset import split_taskset

# Every start looks: a key file may be emptied while nothing runs, and llama-server takes an empty one for no
# key. $0 is the file; as llama-server reads it, a line that is neither empty nor a comment is a key.
_NEEDS_KEY = """grep -q '^[^#]' "$0" || { echo "the API key file $0 holds no key" >&2; exit 78; }"""

_WAITS = (
    'pause=1; waited=0; while :; do seen=$("$0" --list-devices 2>/dev/null); missing=; '
    'for device in "$@"; do case "$seen" in *"$device:"*) ;; *) missing="$missing $device";; esac; done; '
    '[ -z "$missing" ] && exit 0; [ "$waited" -ge 300 ] && break; sleep "$pause"; '
    'waited=$((waited + pause)); [ "$pause" -lt 32 ] && pause=$((pause * 2)); done; '
    'echo "not seen after $waited s:$missing" >&2; exit 75'
)


class Format(StrEnum):
    SYSTEMD = "systemd"
    COMPOSE = "compose"
    KUBERNETES = "kubernetes"
    SHELL = "shell"
    LWS = "lws"
    SBATCH = "sbatch"
    SKYPILOT = "skypilot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A server to run elsewhere."""

    name: str
    model_id: str
    argv: tuple[str, ...]  # the whole command line
    port: int
    host_bytes: int  # the ledger's
    limit_bytes: int | None  # as `up` sets it; None: no limit
    files: tuple[tuple[str, str], ...] = ()  # that a container has to see: on the host, inside
    inside: tuple[tuple[str, str], ...] = ()  # paths of the command line, and what they are inside
    devices: tuple[str, ...] = ()  # GPUs in use, by llama.cpp's names
    uuids: tuple[tuple[str, str], ...] = ()  # of those devices, where they are known
    gpu_name: str = ""  # of its GPUs, where they are planned for
    build: str | None = None  # the engine's, b11026, where it has one
    publish: str = "127.0.0.1"  # the host's address at which a container's port can be reached
    user: str | None = None  # UID:GID that may read the files
    api_key_file: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()  # names of variables that it needs, and whose values no file keeps
    ready: tuple[str, ...] | None = None  # returns once the server has produced a token


def systemd_unit(export: Export, *, system: bool = False) -> str:
    """Return a hardened unit (systemd.exec(5)): it reads the model, binds its port, and little else."""
    # A mount namespace is for the system's units alone: a user's systemd makes a user namespace for it, which
    # systems forbid (Ubuntu 24.04) or containers fail at (226/NAMESPACE, seen), and the service would not
    # start.
    mounts = "ProtectSystem=strict\nProtectControlGroups=yes\nProtectKernelTunables=yes\n" if system else ""
    limit = "" if export.limit_bytes is None else f"MemoryMax={export.limit_bytes}\n"
    environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in export.env)
    if export.secrets:
        environment += f"PassEnvironment={' '.join(export.secrets)}\n"
    ready = "" if export.ready is None else f"ExecStartPost={_line(export.ready)}\n"
    checked = _wait_for_devices(export)
    checked += "".join(
        f"ExecStartPre={_line(('/bin/sh', '-c', _NEEDS_KEY, path))}\n" for path in key_files(export.argv)
    )
    return f"""\
[Unit]
Description=llama-server: {_escaped(export.model_id)}
After=network.target nvidia-persistenced.service
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
{checked}\
ExecStart={_line(export.argv)}
{ready}{environment}\
Restart=on-failure
RestartSec=2
RestartSteps=5
RestartMaxDelaySec=60
TimeoutStartSec=infinity
TimeoutStopSec=20
{limit}\
OOMScoreAdjust=500
LimitCORE=0
UMask=0077
NoNewPrivileges=yes
{mounts}\
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictRealtime=yes

[Install]
WantedBy={"multi-user.target" if system else "default.target"}
"""


def gateway_unit(argv: tuple[str, ...], env: tuple[tuple[str, str], ...], *, system: bool = False) -> str:
    """Return the unit of the gateway: models go on running when it ends, so only its own process does."""
    environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in env)
    return f"""\
[Unit]
Description=launcher: every model of this machine at one address
After=network.target nvidia-persistenced.service
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
ExecStart={_line(argv)}
{environment}\
Restart=on-failure
RestartSec=2
KillMode=process
TimeoutStopSec=30
LimitCORE=0
UMask=0077
NoNewPrivileges=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy={"multi-user.target" if system else "default.target"}
"""


def shell_script(export: Export) -> str:
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in export.env)
    variables += "".join(f': "${{{name}:?was given with -e}}"\n' for name in export.secrets)
    words = " ".join(map(shlex.quote, with_key_check(export.argv)))
    return f"#!/bin/sh\n# {_one_line(export.model_id)}\nulimit -c 0\n{variables}exec {words}\n"


def _wait_for_devices(export: Export) -> str:
    """Return the line that has a start at boot wait for its GPUs, whose drivers take their time."""
    if not export.devices:
        return ""
    # the program itself says what it sees; asked after 1, 2, 4 … 32 s, and every 32 s up to 5 minutes
    program = split_taskset(export.argv)[1][0]
    return f"ExecStartPre={_line(('/bin/sh', '-c', _WAITS, program, *export.devices))}\n"


def key_files(argv: Sequence[str]) -> tuple[str, ...]:
    return listening(argv).key_files


def with_key_check(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that look for the key, if there is to be one, and become the server."""
    for path in key_files(argv):
        argv = ("/bin/sh", "-c", f'{_NEEDS_KEY}; exec "$@"', path, *argv)
    return argv


def _line(words: Sequence[str]) -> str:
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    # systemd.service(5), COMMAND LINES
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = "".join(char if char.isprintable() else _escape(char) for char in escaped)
    quoted = not word or not word.isprintable() or any(char in word for char in " '\"\\;")
    return f'"{escaped}"' if quoted else escaped


def _escape(char: str) -> str:
    # A line end would begin another setting.
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors="surrogateescape"))


def _escaped(text: str) -> str:
    return _one_line(text).replace("%", "%%")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
