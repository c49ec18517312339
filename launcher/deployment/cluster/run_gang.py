"""Run a gang, tunnels and ranks and a llama-server, that lives and ends as one.

Started as `python -m launcher.deployment.cluster.run_gang SPEC -- llama-server …`. It is the child of the
deployment's supervisor in llama-server's place: llama-server has its pipes, and what ends this program ends
all of it. Each rank has one ssh, which runs it there and leads to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.deployment.cluster import gang
from launcher.deployment.cluster.messages import LOADED, WANTED, LineBuffer, Word, read_message
from launcher.deployment.cluster.seats import GangSpec, RankPlace, choose, parse_spec, rank_name
from launcher.deployment.cluster.ssh import last_line, launcher_argv
from launcher.deployment.process import MARKER
from launcher.deployment.supervisor.protect import before_exec
from launcher.engine.flags.listening import listening
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.small_files import read_small

_TICK_S = 1.0
_END_S = 1.0  # for an ssh to end by itself
_MOST_ERRORS = 4 << 10  # bytes of an ssh's stderr
_PORTS = (20_000, 32_000)  # below those that systems give to whoever asks for any


class Tunnel:
    """The ssh of one rank."""

    def __init__(self, argv: Sequence[str], place: RankPlace) -> None:
        self.place = place
        self.lines = LineBuffer()
        self.errors = b""
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=before_exec(None),  # noqa: PLW1509  no thread runs while tunnels are started
        )
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def say(self, word: bytes) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # full, as of a machine that is stopped, or closed
                os.write(self.process.stdin.fileno(), word)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class GangRunner:
    """Carry out what `gang` decides."""

    def __init__(self, spec: GangSpec, argv: Sequence[str], memory: GangMemory) -> None:
        self._spec, self._argv, self._memory = spec, argv, memory
        self._epoch, self._places = memory.begin(spec)
        self._gang = gang.Gang()
        self._tunnels: dict[int, Tunnel] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._left: gang.Leave | None = None
        self._sign = _SignOfLife(argv)
        self._wake_read, wake_write = os.pipe()
        for end in (self._wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def run(self) -> int:
        try:
            self._feed(gang.Begun(len(self._spec.seats), time.monotonic()))
            ticked = time.monotonic()
            while self._left is None:
                self._turn()
                if time.monotonic() - ticked >= _TICK_S:
                    ticked = time.monotonic()
                    self._feed(gang.Ticked(ticked))
            return self._explain(self._left)
        finally:
            self._end_all()

    def _turn(self) -> None:
        for key, _ in self._selector.select(_TICK_S):
            if key.fd == self._wake_read:
                if os.read(self._wake_read, 4096).translate(None, bytes((0, signal.SIGCHLD))):
                    self._feed(gang.StopAsked())
            else:
                self._read(key.data, key.fd)
        now = time.monotonic()
        if self._server is not None and (status := self._server.poll()) is not None:
            self._server = None
            self._feed(gang.Ended(status, now))
        for seat, tunnel in self._tunnels.items():
            if tunnel.process.poll() is not None:
                self._drain(seat, tunnel)
                said = last_line(tunnel.errors.decode("utf-8", errors="replace"))
                self._feed(gang.Lost(seat, f"its tunnel ended: {said}"))
        if self._sign.take():
            self._feed(gang.Answered(now))

    def _drain(self, seat: int, tunnel: Tunnel) -> None:
        for pipe in (tunnel.process.stdout, tunnel.process.stderr):
            while pipe is not None and pipe.fileno() in self._selector.get_map():
                if not self._read(seat, pipe.fileno()):
                    break

    def _read(self, seat: int, output: int) -> bool:
        """Take in what a rank or its ssh has said; False if there is no more for now."""
        tunnel = self._tunnels[seat]
        try:
            data = os.read(output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(output)
            return False
        if tunnel.process.stderr is not None and output == tunnel.process.stderr.fileno():
            tunnel.errors = (tunnel.errors + data)[-_MOST_ERRORS:]
            return True
        for line in tunnel.lines.add(data):
            message = read_message(line)
            if message is None:
                continue
            if message.word is Word.LOST:
                self._feed(gang.Lost(seat, message.why or "it ended"))
            else:
                self._feed(gang.Heard(seat, time.monotonic(), message.word is Word.READY))
        return True

    # ---- effects ----

    def _feed(self, event: gang.Event) -> None:
        self._gang, effects = gang.advance(self._gang, event)
        for effect in effects:
            self._do(effect)

    def _do(self, effect: gang.Effect) -> None:
        match effect:
            case gang.Raise(seat):
                self._raise_rank(seat)
            case gang.Serve():
                self._server = subprocess.Popen(self._argv, preexec_fn=before_exec(None))  # noqa: PLW1509
            case gang.Beat():
                for tunnel in self._tunnels.values():
                    tunnel.say(LOADED if self._sign.is_loaded else WANTED)
            case gang.Ask():
                self._sign.ask()
            case gang.Leave():
                self._left = effect

    def _raise_rank(self, number: int) -> None:
        seat, place = self._spec.seats[number], self._places[number]
        port = random.randrange(*_PORTS)  # noqa: S311  no secret; the rank says if it is taken there
        words = ["cluster", "rank", rank_name(self._spec, number), "--epoch", str(self._epoch)]
        words += ["--device", place.device, "--bytes", str(seat.n_bytes), "--port", str(port)]
        words += ["--engine-sha256", self._spec.engine_sha256]
        forward = f"127.0.0.1:{seat.port}:127.0.0.1:{port}"
        tunnel = Tunnel(launcher_argv(place.remote, words, [forward]), place)
        self._tunnels[number] = tunnel
        for pipe in (tunnel.process.stdout, tunnel.process.stderr):
            if pipe is not None:
                self._selector.register(pipe.fileno(), selectors.EVENT_READ, number)

    def _explain(self, left: gang.Leave) -> int:
        """Say in the log why it ended; return the exit status."""
        if left.why:
            about = ""
            if left.seat is not None:
                place = self._places[left.seat]
                about = f"the rank on {place.node} ({place.device}) is lost: "
                self._memory.note_loss(place.node)
            os.write(2, f"launcher: gang: {about}{left.why}\n".encode())
        return left.status

    def _end_all(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        for tunnel in self._tunnels.values():
            if tunnel.process.stdin is not None:
                with contextlib.suppress(OSError):
                    tunnel.process.stdin.close()  # the rank ends, wherever its ssh is
        for tunnel in self._tunnels.values():
            tunnel.end()


class _SignOfLife:
    """Ask llama-server for its figures, which it gives between two batches, in a thread."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._url = f"http://127.0.0.1:{argv[list(argv).index('--port') + 1]}"
        self._key_files = listening(argv).key_files
        self._is_asking = False
        self._has_answered = threading.Event()
        self.is_loaded = False

    def ask(self) -> None:
        if not self._is_asking:
            self._is_asking = True
            threading.Thread(target=self._run, daemon=True, name="sign-of-life").start()

    def take(self) -> bool:
        """Tell if it has answered since the last time."""
        answered = self._has_answered.is_set()
        self._has_answered.clear()
        return answered

    def _run(self) -> None:
        # Imported while it loads: nothing waits for it.
        from launcher.engine.client import is_loaded, read_api_key, read_metrics  # noqa: PLC0415
        from launcher.errors import LauncherError  # noqa: PLC0415

        try:
            if self.is_loaded or is_loaded(self._url):
                read_metrics(self._url, api_key=read_api_key(next(iter(self._key_files), None)))
                self.is_loaded = True
            self._has_answered.set()  # a load takes as long as it takes: the supervisor watches it
        except LauncherError:
            pass
        finally:
            self._is_asking = False


class GangMemory:
    """What outlives one run: the last epoch, and which machines were lost when."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._epoch = 0
        self._lost: dict[str, float] = {}
        with contextlib.suppress(OSError, Malformed):
            given = JsonObject(parse_json(read_small(file)))
            self._epoch = given.whole("epoch")
            self._lost = {node: float(at) for node, at in given.object_at("lost").wholes_by_key().items()}

    def begin(self, spec: GangSpec) -> tuple[int, tuple[RankPlace, ...]]:
        """Return a new epoch, higher than any before, and where the ranks are to be."""
        self._epoch = max(self._epoch + 1, time.time_ns() // 1_000_000)
        self._save()
        return self._epoch, choose(spec, self._lost, time.time())

    def note_loss(self, node: str) -> None:
        self._lost[node] = time.time()
        self._save()

    def _save(self) -> None:
        # A lost file costs nothing but the choice: epochs grow with the clock.
        lost: Mapping[str, int] = {node: int(at) for node, at in self._lost.items()}
        with contextlib.suppress(OSError):
            write_atomically(self._file, json.dumps({"epoch": self._epoch, "lost": lost}).encode())


def main(words: Sequence[str]) -> int:
    spec_text, _, *argv = words
    memory = GangMemory(Path(os.environ[MARKER]).with_suffix(".gang"))
    return GangRunner(parse_spec(spec_text), argv, memory).run()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status < 0:  # as llama-server ended
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    # A thread may still wait for an answer.
    os._exit(status & 0xFF)
