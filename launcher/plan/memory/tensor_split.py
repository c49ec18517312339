"""Divide a ledger under `--split-mode tensor`, which puts a part of every layer on each device. Pure.

For explanations, and for where the simulator, which divides exactly, cannot run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.plan.amounts import HOST, Amount, Basis, LedgerRow
from launcher.plan.memory.assign import Assignment
from launcher.plan.memory.budget import Budgets
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import Question

# A tenth of the whole may lie on one device beyond its share: whole heads and blocks are not divided, and
# norms, routers and shared experts are copied (llama_meta_device_get_split_state). An assumption; the
# simulator knows.
_UNEVEN = 10


def splits_tensors(question: Question) -> bool:
    return question.split_mode is SplitMode.TENSOR and len(question.devices) > 1


def as_one_device(question: Question) -> Question:
    # To llama.cpp the devices are one (ggml/src/ggml-backend-meta.cpp at 0c1e570).
    return replace(question, devices=question.devices[:1], tensor_split=(), split_mode=SplitMode.LAYER)


def proportions(question: Question) -> tuple[float, ...]:
    """Return each device's part: `--tensor-split`, else equal ones whatever the free memory."""
    n_devices = len(question.devices)
    split = (*question.tensor_split, *(0.0,) * n_devices)[:n_devices]
    total = sum(split)
    return tuple(share / total for share in split) if total else (1 / n_devices,) * n_devices


def divide_assignment(whole: Assignment, question: Question) -> Assignment:
    """Give every device the layers of `whole`, with its part of their bytes."""
    one, host = whole.shares[0], whole.share(HOST)
    shares = tuple(
        replace(
            one,
            where=device.id,
            weights_bytes=round(one.weights_bytes * part),
            expert_bytes=round(one.expert_bytes * part),
        )
        for device, part in zip(question.devices, proportions(question), strict=True)
    )
    return replace(whole, shares=(*shares, host))


def divide_ledger(ledger: Sequence[LedgerRow], question: Question, budgets: Budgets) -> tuple[LedgerRow, ...]:
    """Divide the one device's weights and caches by proportion; each device has all of the compute."""
    one, host = ledger[0], ledger[-1]
    by_id = {budget.device.id: budget for budget in budgets.devices}
    rows = [
        replace(
            one,
            where=device.id,
            name=device.name,
            weights=_part(one.weights, part),
            kv=_part(one.kv, part),
            overhead=by_id[device.id].overhead,
            budget_bytes=by_id[device.id].n_bytes,
        )
        for device, part in zip(question.devices, proportions(question), strict=True)
    ]
    return (*rows, host)


def _part(amount: Amount, part: float) -> Amount:
    if not amount.n_bytes:
        return amount
    uneven = amount.n_bytes // _UNEVEN
    return Amount(n_bytes=round(amount.n_bytes * part), basis=Basis.ESTIMATED, band_bytes=uneven)
