"""Write a measurement in the columns that published speeds are collected in, a row for each depth."""

from __future__ import annotations

import csv
import math
import os
import shlex
from pathlib import Path

from launcher.commands.bench.report import Report
from launcher.errors import UsageError
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Device, Machine
from launcher.plan.amounts import HOST
from launcher.plan.forecast.benched import Benched, Samples, Speed
from launcher.plan.placement.pace import used_share
from launcher.plan.plan import Plan
from launcher.units import GIB, MIB

COLUMNS = (
    "id",
    "model",
    "arch_class",
    "params_total_B",
    "params_active_B",
    "quant",
    "model_size_GiB",
    "engine",
    "engine_version",
    "backend",
    "gpus",
    "gpu_count",
    "gpu_vram_total_GB",
    "gpu_mem_bw_GBs",
    "cpu",
    "sockets",
    "cpu_threads_used",
    "ram",
    "ram_channels",
    "ram_bw_GBs",
    "ram_bw_basis",
    "os_notes",
    "placement",
    "weights_on_gpu_MiB",
    "weights_on_cpu_MiB",
    "kv_type",
    "flags",
    "n_ubatch",
    "kv_depth",
    "pp_tokens",
    "prefill_tps",
    "tg_tokens",
    "decode_tps",
    "concurrency",
    "date",
    "spec_grade",
    "notes",
    "source",
)  # fmt: skip


def export(report: Report, file: Path) -> None:
    """Append the measurement to a CSV file, with a line of names if it is new. Raises UsageError."""
    loaded, benched = report.loaded, report.benched
    plan = loaded.plan
    fixed = {
        **_model(loaded.model, benched),
        **_machine(loaded.machine, plan),
        **_plan(plan, benched),
    }
    try:
        with file.open("a", encoding="utf-8", newline="") as out:
            rows = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
            if os.fstat(out.fileno()).st_size == 0:
                rows.writeheader()
            rows.writerows({**fixed, **_speed(speed)} for speed in benched.speeds)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint="name another file") from error


def _model(model: ModelFile, benched: Benched) -> dict[str, object]:
    routed = sum(math.prod(tensor.shape) for tensor in model.tensors if "_exps." in tensor.name)
    total = sum(math.prod(tensor.shape) for tensor in model.tensors)
    used = used_share(read_architecture(model.metadata, model.tensors))
    return {
        "model": benched.subject.model_id,
        "arch_class": benched.subject.family,
        "params_total_B": f"{total / 1e9:.4g}",
        "params_active_B": f"{(total - routed * (1 - used)) / 1e9:.4g}",
        "quant": benched.subject.quant,
        "model_size_GiB": f"{benched.subject.size_bytes / GIB:.3f}",
        "engine": "llama.cpp",
        "engine_version": benched.subject.engine,
    }


def _machine(machine: Machine, plan: Plan) -> dict[str, object]:
    used = [device for device in machine.devices if device.id in plan.placement.devices]
    measured = machine.ram_read_rate
    return {
        "backend": used[0].backend.name if used else "CPU",
        "gpus": " + ".join(device.name for device in used),
        "gpu_count": len(used),
        "gpu_vram_total_GB": f"{_gib(used):.0f}" if used else "",
        "cpu": machine.cpu.name or "",
        "ram": f"{machine.ram_total_bytes / GIB:.0f}GB",
        "ram_bw_GBs": "" if measured is None else f"{measured / 1e9:.1f}",
        "ram_bw_basis": "" if measured is None else "measured read (launcher probe --measure)",
        "os_notes": machine.os,
    }


def _gib(devices: list[Device]) -> float:
    return sum(device.total_bytes for device in devices) / GIB


def _plan(plan: Plan, benched: Benched) -> dict[str, object]:
    given = dict(zip(benched.line[::2], benched.line[1::2], strict=False))
    on_host = sum(row.weights.n_bytes for row in plan.ledger if row.where == HOST)
    on_gpus = sum(row.weights.n_bytes for row in plan.ledger if row.where != HOST)
    return {
        "cpu_threads_used": given.get("-t", plan.threads),
        "placement": f"{plan.placement.n_gpu_layers} of {plan.placement.n_block + 1} layers on GPUs",
        "weights_on_gpu_MiB": f"{on_gpus / MIB:.1f}",
        "weights_on_cpu_MiB": f"{on_host / MIB:.1f}",
        "kv_type": plan.cache_types,
        "flags": shlex.join(benched.line),
        "n_ubatch": plan.ubatch_size,
        "pp_tokens": benched.prompt_tokens,
        "tg_tokens": benched.reply_tokens,
        "concurrency": 1,
        "date": benched.subject.date,
        "source": "launcher bench",
    }


def _speed(speed: Speed) -> dict[str, object]:
    through_api = f"{_rate(speed.api_prompt) or '-'} and {_rate(speed.api_reply) or '-'}"
    return {
        "kv_depth": speed.depth,
        "prefill_tps": _rate(speed.prompt),
        "decode_tps": _rate(speed.reply),
        "notes": f"llama-bench, {_spread(speed.reply)}; through the HTTP API {through_api}",
    }


def _rate(samples: Samples | None) -> str:
    return "" if samples is None else f"{samples.median:.2f}"


def _spread(samples: Samples | None) -> str:
    if samples is None:
        return "no reply"
    return f"median of {len(samples.rates)}, {samples.low:.2f} to {samples.high:.2f}"
