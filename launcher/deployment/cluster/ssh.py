"""Reach another machine through ssh. Every command of launcher on another machine goes through here."""

# No shell strings are put together: a command is a list of words, and quoted once, for the remote shell that
# sshd runs it in. What comes back is bounded in bytes and time, and is nobody's word but the peer's.

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence

from launcher.deployment.cluster.messages import MOST_SAID
from launcher.deployment.cluster.remote import Remote, check_target
from launcher.errors import NotFound, TryAgain, UsageError
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.units import one_line

_FAILED = 255  # ssh's own exit status (ssh(1)): the connection failed
_NOT_FOUND = 127  # of a shell: no such command

# A cut cable ends ssh after 6 to 8 s (tried): two questions of 3 s without an answer.
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=5",
    "ServerAliveInterval=3",
    "ServerAliveCountMax=2",
    "ExitOnForwardFailure=yes",
    "ControlMaster=no",  # a shared connection would keep our forwards after we ended
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
)
_MOST_BYTES = 4 << 20
_MOST_WORDS = 4 << 10  # bytes of stderr
_ASK_S = 60.0


def ssh_argv(remote: Remote, words: Sequence[str], forwards: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command line of an ssh that runs words there; none: that only forwards ports."""
    config = () if remote.config is None else ("-F", remote.config)
    options = [word for option in _OPTIONS for word in ("-o", option)]
    ways = [word for forward in forwards for word in ("-L", forward)]
    command = (shlex.join(words),) if words else ()
    mode = () if words else ("-N",)
    return ("ssh", *config, *options, *ways, *mode, "--", check_target(remote.target), *command)


def launcher_argv(remote: Remote, words: Sequence[str], forwards: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command line of an ssh that runs launcher there."""
    return ssh_argv(remote, (*remote.program, *words), forwards)


def ask_launcher(
    remote: Remote, words: Sequence[str], flags: Sequence[str] = (), *, limit_s: float = _ASK_S
) -> object:
    """Run a command of launcher there, with llama-server's flags if any; return its JSON document.

    Raises TryAgain where the machine cannot be reached, NotFound without a launcher there, UsageError with
    the error that the launcher there gives.
    """
    status, out, err = _run(
        launcher_argv(remote, (*words, "--json", *(("--", *flags) if flags else ()))), limit_s
    )
    where = remote.target
    if status is None:
        raise TryAgain(
            f"{where} sent no answer within {limit_s:.0f} s, or one of more than {_MOST_BYTES} bytes",
            hint=f"ssh {where}",
        )
    if status == _FAILED:
        raise unreachable(where, err)
    if status == _NOT_FOUND:
        raise NotFound(
            f"there is no {remote.program[0]!r} on {where}: {last_line(err)}",
            hint=f"launcher cluster add {where} --launcher PATH",
        )
    try:
        answer: object = parse_json(out)
        if isinstance(answer, dict) and "error" in answer:
            problem = JsonObject(answer).object_at("error")
            hint = one_line(problem.optional_text("hint") or "", MOST_SAID)
            raise UsageError(
                f"{where}: {one_line(problem.text('message'), MOST_SAID)}",
                hint=f"on {where}, as it says: {hint}" if hint else None,  # a peer's word, and not for here
            )
    except Malformed as error:
        raise UsageError(
            f"{where} answers no JSON of launcher ({one_line(str(error), MOST_SAID)}): {last_line(err)}",
            hint=f"ssh {where} {shlex.join((*remote.program, '--version'))}",
        ) from error
    return answer


def unreachable(where: str, err: str) -> TryAgain:
    return TryAgain(
        f"{where} cannot be reached: {last_line(err)}",
        hint=f"ssh {where}, which asks about its key the first time",
    )


def last_line(text: str) -> str:
    """Return the last line that says something, printable; `nothing said` for none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1], MOST_SAID) if lines else "nothing said"


def _run(argv: Sequence[str], limit_s: float) -> tuple[int | None, str, str]:
    """Run ssh; return exit status (None: it took too long, or said too much), stdout and stderr."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    texts: dict[object, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    deadline = time.monotonic() + limit_s
    with process:
        try:
            is_whole = _collect(texts, deadline)
            status = process.wait(max(0.1, deadline - time.monotonic())) if is_whole else None
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
    out, err = (text.decode("utf-8", errors="replace") for text in texts.values())
    return status, out, err


def _collect(texts: dict[object, bytearray], deadline: float) -> bool:
    """Read to the end of both pipes; False if the time or the bytes ran out."""
    stdout, stderr = texts
    with selectors.DefaultSelector() as selector:
        for pipe in texts:
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready or time.monotonic() >= deadline:  # a flood is always ready
                return False
            for key, _ in ready:
                block = os.read(key.fd, 1 << 16)
                if not block:
                    selector.unregister(key.fileobj)
                    continue
                texts[key.fileobj] += block
                if key.fileobj is stderr:
                    del texts[stderr][:-_MOST_WORDS]
            if len(texts[stdout]) > _MOST_BYTES:
                return False
    return True
