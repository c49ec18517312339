"""llama-server, started with a question's parameters, and its own load log to compare with."""

from __future__ import annotations

import functools
import os
import re
import selectors
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import Answer, ProjectorAnswer, Question, Refusal
from launcher.simulate.client import SimulatorPool
from launcher.simulate.meta import is_partial_sum
from launcher.units import MIB

ROUNDING_MIB = 0.1
OTHER_COMPUTE, OTHER_MIB = 0.05, 4.0
"""How much too high the compute buffers of an engine of another commit may be simulated."""
LAVAPIPE_BYTES = 2048 * MIB
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output|DSV4 \S+ state) buffer size =\s*([\d.]+) MiB")
_SPLITS = re.compile(r"splits = (\d+)(?: / (\d+)| \(with bs=\d+\), (\d+))?")
_PROJECTOR = re.compile(r"CLIP using (\S+) backend|load_hparams: model size:\s*([\d.]+) MiB")
_ALLOCATED = re.compile(r"allocated (\S+) (\d+)$")
_META = "Meta()"
"""What llama.cpp calls all devices together under `--split-mode tensor`."""
_KINDS = {"model": "weights", "KV": "kv", "RS": "recurrent", "compute": "compute", "output": "output"}


@dataclass(slots=True)
class EngineLoad:
    """Memory and graph splits as the engine's log states them."""

    # MiB by buffer type and kind
    mib: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    splits: tuple[int, int] | None = None
    projector: str = ""
    # MiB of allocations whose kind is not known yet
    pending: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    tail: list[str] = field(default_factory=list)
    # MiB of compute that the newest context has reserved; reserved again, they are replaced
    reserved: dict[str, float] = field(default_factory=dict)


def software_gpus(count: int) -> tuple[Device, ...]:
    """Lavapipe devices as the Vulkan engine names them under GGML_VK_VISIBLE_DEVICES=0,0."""
    return tuple(
        Device(
            id=f"Vulkan{index}",
            backend=Backend.VULKAN,
            name="llvmpipe (LLVM 15.0.6, 256 bits)",
            total_bytes=LAVAPIPE_BYTES,
            free_bytes=LAVAPIPE_BYTES,
        )
        for index in range(count)
    )


def server_argv(question: Question) -> list[str]:
    """llama-server's flags for a question; everything explicit."""
    peers = [device.peer.endpoint for device in question.devices if device.peer is not None]
    # before what names their devices
    argv = ["--rpc", ",".join(dict.fromkeys(peers))] if peers else []
    argv += ["-m", question.model, "-c", str(question.ctx_size), "-np", str(question.n_parallel)]
    argv += ["-kvu"] if question.kv_unified else ["--no-kv-unified"]
    argv += ["-ctk", question.cache_type_k, "-ctv", question.cache_type_v]
    argv += ["-b", str(question.batch_size), "-ub", str(question.ubatch_size), "-fa", question.flash_attn]
    argv += ["-lm", question.load_mode, "-sm", question.split_mode, "-mg", str(question.main_gpu)]
    argv += ["-ngl", "all" if question.n_gpu_layers is None else str(question.n_gpu_layers)]
    if question.overrides:
        names = {HOST: "CPU", **{device.id: device.buffer_name for device in question.devices}}
        rules = [f"{rule.pattern}={names.get(rule.where, rule.where)}" for rule in question.overrides]
        argv += ["-ot", ",".join(rules)]
    if question.tensor_split:
        argv += ["-ts", ",".join(f"{share:g}" for share in question.tensor_split)]
    for is_set, flag in (
        (question.swa_full, "--swa-full"),
        (question.no_host, "--no-host"),
        (not question.op_offload, "--no-op-offload"),
        (not question.kv_offload, "--no-kv-offload"),
    ):
        argv += [flag] if is_set else []
    return argv


def load_with_engine(
    server: Path,
    question: Question,
    *,
    old_flags: bool = False,
    timeout_s: float = 120,
    companion_flags: Sequence[str] = (),
    n_reserved: int = 0,
) -> EngineLoad:
    """Start llama-server, read its log until the model is loaded, and end it.

    `old_flags` is for engines before `--load-mode`. `companion_flags` load more than the model; the log is then
    read until all is initialized, or until graphs have been reserved so many times (`n_reserved`).
    """
    # without companions the log is read up to `reserve took`; a projector's compute is reserved later, in the
    # warm-up
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "GGML_"))
    }
    environment["GGML_VK_VISIBLE_DEVICES"] = ",".join("0" for device in question.devices if not device.peer)
    if question.split_mode is SplitMode.TENSOR:
        environment["LD_PRELOAD"] = str(allocation_log())
    command = [str(server), *server_argv(question)]
    command += ["--fit", "off", "--host", "127.0.0.1", "--port", "0", "-lv", "4"]
    command += companion_flags or ["--no-warmup"]
    if old_flags:
        at = command.index("-lm")
        command[at : at + 2] = ["--no-mmap"]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        last = "initializing, n_slots" if companion_flags and not n_reserved else "reserve took"
        return _read_load(process, timeout_s, last, max(n_reserved, 1))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@functools.cache
def allocation_log() -> Path:
    """`allocations.c`, compiled once for this process."""
    library = Path(tempfile.mkdtemp(prefix="allocations-")) / "allocations.so"
    source = Path(__file__).with_name("allocations.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def _read_load(process: subprocess.Popen[bytes], timeout_s: float, last: str, count: int) -> EngineLoad:
    load = EngineLoad()
    deadline = time.monotonic() + timeout_s
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(process.stdout.fileno(), 1 << 16)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _note(load, line.decode(errors="replace"))
                count -= last.encode() in line
                if count == 0:
                    return load
            if not data:
                break
    raise AssertionError("llama-server did not load:\n" + "\n".join(load.tail[-15:]))


def _note(load: EngineLoad, line: str) -> None:
    load.tail.append(line)
    if match := _ALLOCATED.search(line):
        load.pending[match[1]] += int(match[2]) / MIB
    elif match := _BUFFER.search(line):
        kind = _KINDS.get(match[2], "kv")
        if match[1] == _META:
            _divide(load, kind, float(match[3]))
        else:
            load.mib[match[1], kind] += float(match[3])
            _replace_reserved(load, line, match[1], kind)
    elif "graph" in line and (match := _SPLITS.search(line)):
        load.splits = (int(match[1]), int(match[2] or match[3] or match[1]))
    elif match := _PROJECTOR.search(line):
        if match[1]:
            load.projector = match[1]
        else:
            load.mib[load.projector, "weights"] += float(match[2])


def _replace_reserved(load: EngineLoad, line: str, name: str, kind: str) -> None:
    if kind == "output":
        load.reserved.clear()  # another context begins
    elif "sched_reserve:" in line:
        load.mib[name, kind] -= load.reserved.get(name, 0.0)
        load.reserved[name] = float(line.rsplit("=", 1)[1].split(maxsplit=1)[0])


def _divide(load: EngineLoad, kind: str, logged: float) -> None:
    """Count what each device has allocated since the last line about all of them."""
    # the line states the largest of these
    devices = {name: size for name, size in load.pending.items() if re.fullmatch(r"[A-Za-z]+\d+", name)}
    assert abs(max(devices.values()) - logged) < 0.01, (devices, kind, logged)
    for name, size in devices.items():
        load.mib[name, kind] += size
    load.pending.clear()


def simulated_mib(*answers: Answer | ProjectorAnswer) -> dict[tuple[str, str], float]:
    """Answers, added up, in the form of EngineLoad.mib, without zeros."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for answer in answers:
        for key, size in _rows_mib(answer).items():
            found[key] += size
    return dict(found)


def _rows_mib(answer: Answer | ProjectorAnswer) -> dict[tuple[str, str], float]:
    return {
        (row.buffer_type, kind): size / MIB
        for row in answer.rows
        if not is_partial_sum(row)  # allocated by the first prompt
        for kind, size in (
            ("weights", row.weights_bytes),
            ("kv", row.kv_bytes),
            ("recurrent", row.recurrent_bytes),
            ("compute", row.compute_bytes),
            ("output", row.output_bytes),
        )
        if size
    }


def differences(load: EngineLoad, *answers: Answer | ProjectorAnswer) -> dict[tuple[str, str], float]:
    """Simulated minus real, in MiB, for every buffer either of them has."""
    simulated = simulated_mib(*answers)
    return {
        key: simulated.get(key, 0.0) - load.mib.get(key, 0.0)
        for key in sorted(set(simulated) | set(load.mib))
    }


def out_of_bounds(
    load: EngineLoad, answer: Answer, *, of_compute: float = OTHER_COMPUTE, at_least_mib: float = OTHER_MIB
) -> dict[tuple[str, str], float]:
    """Return the differences in MiB that are too large.

    Compute may be too high by `of_compute` of itself or `at_least_mib`, whichever is larger; everything else,
    either way, by rounding.
    """
    found = {}
    for key, gap in differences(load, answer).items():
        room = max(of_compute * load.mib.get(key, 0.0), at_least_mib) if key[1] == "compute" else ROUNDING_MIB
        if gap < -ROUNDING_MIB or gap > room:
            found[key] = gap
    return found


def gaps_with_companions(
    server: Path, main: Question, flags: tuple[str, ...], *answers: Answer | ProjectorAnswer | Refusal
) -> dict[tuple[str, str], float]:
    """Return what differs by more than rounding, in MiB, of the model and its companions together."""
    answered = [answer for answer in answers if not isinstance(answer, Refusal)]
    assert len(answered) == len(answers), answers
    load = load_with_engine(server, main, companion_flags=flags)
    return {key: gap for key, gap in differences(load, *answered).items() if abs(gap) > ROUNDING_MIB}


def split_tensor_disagreements(
    server: Path, simulators: SimulatorPool, models: tuple[Path, ...], devices: tuple[Device, ...]
) -> tuple[int, dict[str, object]]:
    """Return the number of models answered, and those whose rows, splits or refusal are not the engine's."""
    answered, found = 0, dict[str, object]()
    for model in models:
        question = Question(model=str(model), devices=devices, ctx_size=1024, split_mode=SplitMode.TENSOR)
        answer = simulators.simulate(question)
        try:
            load = load_with_engine(server, question)
        except AssertionError as error:
            said = answer.reason.partition(": ")[2] if isinstance(answer, Refusal) else "an answer"
            if said not in str(error):
                found[model.name] = (said, str(error)[-400:])
            continue
        if isinstance(answer, Refusal):
            found[model.name] = answer.reason
            continue
        answered += 1
        gaps = {key: gap for key, gap in differences(load, answer).items() if abs(gap) > ROUNDING_MIB}
        if gaps or load.splits != answer.graph_splits:
            found[model.name] = (gaps, load.splits, answer.graph_splits)
    return answered, found
