"""Run a gang, tunnels and ranks and a llama-server, that lives and ends as one.

Started as `python -m launcher.deployment.cluster.run_gang SPEC -- llama-server …`. It is the child of the
deployment's supervisor in llama-server's place: llama-server has its pipes, and what ends this program ends
all of it. Each rank has one ssh, which runs it there and leads to it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.deployment.address import check_start
from launcher.deployment.cluster import gang
from launcher.deployment.cluster.gang_memory import GangMemory
from launcher.deployment.cluster.messages import LOADED, WANTED, Word
from launcher.deployment.cluster.private_socket import new_socket
from launcher.deployment.cluster.seats import GangSpec, parse_spec, rank_name
from launcher.deployment.cluster.sign_of_life import SignOfLife
from launcher.deployment.cluster.ssh import launcher_argv
from launcher.deployment.cluster.tunnel import Tunnel
from launcher.deployment.cluster.tunnel_end import TunnelEnds
from launcher.deployment.process import MARKER
from launcher.deployment.records import gang_path
from launcher.deployment.supervisor.protect import before_exec

_TICK_S = 1.0


class GangRunner:
    """Carry out what `gang` decides."""

    def __init__(self, spec: GangSpec, memory: GangMemory) -> None:
        self._spec, self._memory = spec, memory
        self._epoch, raising = memory.begin(spec)
        self._layout, self._places = raising.layout, raising.places
        self._gang = gang.Gang()
        self._tunnels: dict[int, Tunnel] = {}
        self._ends = TunnelEnds()
        self._server: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._left: gang.Leave | None = None
        self._sign = SignOfLife(self._layout.argv)
        self._wake_read, wake_write = os.pipe()
        for end in (self._wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def run(self) -> int:
        try:
            if self._layout is not self._spec.layouts[0]:
                names = ", ".join(sorted({place.node for place in self._places}))
                os.write(2, f"launcher: gang: another layout, over {names}: a machine was lost\n".encode())
            self._feed(gang.Begun(len(self._places), time.monotonic()))
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
            if tunnel.has_ended:
                self._drain(seat, tunnel)
                self._feed(gang.Lost(seat, f"its tunnel ended: {tunnel.last_words}"))
        if self._sign.take():
            self._feed(gang.Answered(now))

    def _drain(self, seat: int, tunnel: Tunnel) -> None:
        for output in tunnel.outputs:
            while output in self._selector.get_map() and self._read(seat, output):
                pass

    def _read(self, seat: int, output: int) -> bool:
        """Take in what a rank or its ssh has said; False if there is no more for now."""
        try:
            messages = self._tunnels[seat].read(output)
        except BlockingIOError:
            return False
        if messages is None:
            self._selector.unregister(output)
            return False
        for message in messages:
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
                check_start(self._layout.argv)
                self._server = subprocess.Popen(self._layout.argv, preexec_fn=before_exec(None))  # noqa: PLW1509
                self._ends.open()  # llama-server's connections wait: a program is not started beside threads
            case gang.Beat():
                for tunnel in self._tunnels.values():
                    tunnel.say(LOADED if self._sign.is_loaded else WANTED)
            case gang.Ask():
                self._sign.ask()
            case gang.Leave():
                self._left = effect

    def _raise_rank(self, number: int) -> None:
        seat, place = self._layout.seats[number], self._places[number]
        socket = new_socket()
        words = ["cluster", "rank", rank_name(self._spec, number), "--epoch", str(self._epoch)]
        words += ["--device", place.device, "--bytes", str(seat.n_bytes), "--socket", socket]
        words += ["--engine-sha256", self._spec.engine_sha256]
        tunnel = Tunnel(launcher_argv(place.remote, words, [f"{self._ends.add(seat.port)}:{socket}"]))
        self._tunnels[number] = tunnel
        for output in tunnel.outputs:
            self._selector.register(output, selectors.EVENT_READ, number)

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
            tunnel.let_go()
        for tunnel in self._tunnels.values():
            tunnel.end()
        self._ends.close()


def main(words: Sequence[str]) -> int:
    spec_text, *_ = words  # the planned layout's llama-server follows, for those who read records
    marker = Path(os.environ[MARKER])  # the record's file (records.marker_of)
    memory = GangMemory(gang_path(marker.parent, marker.stem))
    return GangRunner(parse_spec(spec_text), memory).run()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status < 0:  # as llama-server ended
        with contextlib.suppress(OSError):  # SIGKILL has no other
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    # A thread may still wait for an answer.
    os._exit(status & 0xFF)
