"""Ask what llama-server's `--fit` makes of a command line, and read the line as it leaves it.

Fit is the engine's own (common/fit.cpp, common_fit_params at 0c1e570). It is on unless switched off, changes
only what the line leaves open, and does not look at the host's memory while there is a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from launcher.machine.machine import Device, Machine
from launcher.plan.amounts import HOST
from launcher.plan.check.configuration import Configuration, pool_size
from launcher.plan.companions import NO_COMPANIONS, Companions
from launcher.plan.memory.budget import free_within
from launcher.plan.memory.companion_questions import draft_question, mtp_question, projector_question
from launcher.plan.modes import SplitMode, TensorOverride
from launcher.plan.oracle import FitOracle, FitQuestion, Fitted, Oracle, Question, Refusal
from launcher.plan.workload import Limits
from launcher.units import MIB

TARGET_BYTES = 1024 * MIB  # common_params.fit_params_target


class FitOutcome(StrEnum):
    """What `--fit` does to a line."""

    OFF = "off"
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    GAVE_UP = "gave up"  # perhaps after it has shortened the context: llama-server goes on all the same
    UNKNOWN = "unknown"  # no engine can be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLine:
    """What `--fit` does, and the line as it leaves it."""

    outcome: FitOutcome
    configuration: Configuration
    is_shorter: bool = False  # fit has chosen the context
    is_placed: bool = False  # fit has chosen where the layers go
    why: str | None = None  # it has given up, or nobody knows


class LineOracle(Oracle, FitOracle, Protocol):
    """A simulator that also runs `--fit`."""


def fit_line(
    configuration: Configuration,
    question: Question,
    machine: Machine,
    oracle: FitOracle,
    companions: Companions = NO_COMPANIONS,
) -> FittedLine:
    """Return the line as `--fit` leaves it; `question` is about the line as it stands."""
    if not configuration.fit:
        return FittedLine(outcome=FitOutcome.OFF, configuration=configuration)
    declined = declines(configuration, len(question.devices))
    given_up = FittedLine(outcome=FitOutcome.GAVE_UP, configuration=configuration, why=declined)
    if question.split_mode is SplitMode.TENSOR:
        return given_up
    if question.split_mode is SplitMode.ROW:
        why = "--split-mode row cannot be simulated"
        return replace(given_up, outcome=FitOutcome.UNKNOWN, why=why) if not declined else given_up
    seen = replace(machine, devices=_seen_by_process(machine.devices))
    by_id = {device.id: device for device in seen.devices}
    question = replace(question, devices=tuple(by_id[device.id] for device in question.devices))
    asked = fit_question(
        configuration, question, machine.ram_total_bytes, _projector_bytes(companions, question, seen)
    )
    if companions.draft is not None:
        draft = draft_question(companions.draft, asked.question, seen.devices, ())
        asked = replace(asked, companion=draft)
    elif companions.mtp is not None:
        context = mtp_question(companions.mtp, companions, asked.question).draft
        asked = replace(asked, companion=context)
    fitted = oracle.fit(asked)
    if isinstance(fitted, Refusal):
        if declined and configuration.ctx_size is not None:
            return given_up
        return replace(given_up, outcome=FitOutcome.UNKNOWN, why=fitted.reason)
    return fitted_line(configuration, asked, fitted, pool=question.ctx_size)


def fit_question(
    configuration: Configuration, question: Question, host_bytes: int, beside: Sequence[int] = ()
) -> FitQuestion:
    """Return what llama-server hands to fit; `question` is about the line as it stands.

    `beside` are the bytes of a projector, to be left free as well: by the place of their device in ggml's
    list of all, as llama-server counts it (server_context_impl::load_model).
    """
    given = configuration.fit_targets
    n_targets = max(len(question.devices), 1)
    targets = (given[index] if index < len(given) else TARGET_BYTES for index in range(n_targets))
    more = (*beside, *(0 for _ in range(n_targets)))
    return FitQuestion(
        question=replace(question, ctx_size=_open_context(configuration)),
        layers_given=configuration.layers_given,
        targets=tuple(target + extra for target, extra in zip(targets, more, strict=False)),
        least_ctx_size=configuration.fit_ctx,
        host_bytes=host_bytes,
    )


def fitted_line(configuration: Configuration, asked: FitQuestion, fitted: Fitted, *, pool: int) -> FittedLine:
    """Return the line as fit leaves it; `pool` are the tokens of the line as it stands."""
    after = replace(configuration, ctx_size=fitted.ctx_size)
    # fit writes down a context that was open, shorter or not
    is_shorter = bool(fitted.ctx_size) and pool_size(after, 0) < pool
    if not is_shorter:
        after = configuration
    is_placed = fitted.n_gpu_layers != asked.question.n_gpu_layers
    if is_placed:
        after = replace(
            after,
            n_gpu_layers=fitted.n_gpu_layers,
            tensor_split=fitted.tensor_split,
            overrides=_as_typed(fitted.overrides, asked.question.devices),
        )
    outcome = FitOutcome.CHANGED if is_shorter or is_placed else FitOutcome.UNCHANGED
    why = declines(configuration, len(asked.question.devices)) if fitted.gave_up else None
    return FittedLine(
        outcome=FitOutcome.GAVE_UP if fitted.gave_up else outcome,
        configuration=after,
        is_shorter=is_shorter,
        is_placed=is_placed,
        why=why,
    )


def fit_limits(line: FittedLine, devices: Sequence[Device]) -> Limits | None:
    """Return the limits of a line that fit has judged: it has left a margin on each device itself.

    What is left to ask is if that is enough for what llama.cpp does not count, the ledger's overhead.
    """
    if line.outcome not in {FitOutcome.CHANGED, FitOutcome.UNCHANGED}:
        return None
    return Limits(reserve=tuple((device.id, 0) for device in devices))


def declines(configuration: Configuration, n_devices: int) -> str | None:
    """Return why fit would not place layers: the first thing that common_params_fit_impl finds."""
    many = n_devices > 1
    reasons = (
        (configuration.split_mode is SplitMode.TENSOR, "it declines --split-mode tensor"),
        (not n_devices and configuration.ctx_size is not None, "-c is given"),
        (not n_devices, "without a device it only shortens the context"),
        (configuration.layers_given, "-ngl is given"),
        (many and any(configuration.tensor_split), "-ts is given"),
        (many and configuration.split_mode is SplitMode.ROW, "--split-mode row is given"),
        (configuration.overrides, "an override of tensors (-ot, --cpu-moe, --n-cpu-moe) is given"),
    )
    return next((why for holds, why in reasons if holds), None)


def _open_context(configuration: Configuration) -> int:
    """Return the context as llama-server hands it to fit, 0 if it is open."""
    if configuration.ctx_size is None and configuration.ctx_per_slot:
        return configuration.ctx_per_slot * configuration.n_parallel
    return configuration.ctx_size or 0


def _as_typed(rules: Sequence[TensorOverride], devices: Sequence[Device]) -> tuple[TensorOverride, ...]:
    names = {device.id: device.buffer_name for device in devices}
    return tuple(replace(rule, where=names.get(rule.where, rule.where)) for rule in rules)


def _seen_by_process(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices with the free memory that llama-server finds, a context of its own on each."""
    return tuple(replace(device, free_bytes=free_within(device)) for device in devices)


def _projector_bytes(companions: Companions, question: Question, machine: Machine) -> tuple[int, ...]:
    """Return a projector's bytes by place in ggml's list of devices, in which the host is the last."""
    projector = companions.projector
    if projector is None:
        return ()
    answer = projector.oracle.simulate_projector(projector_question(projector, question, machine.devices))
    if isinstance(answer, Refusal):  # llama-server goes on without
        return ()
    places = (*(device.id for device in machine.devices), HOST)
    return tuple(
        sum(row.weights_bytes + row.compute_bytes for row in answer.rows if row.where == place)
        for place in places
    )
