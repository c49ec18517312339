"""Ask what llama-server's `--fit` makes of a command line, and read the line as it leaves it.

Fit is the engine's own (common/fit.cpp, common_fit_params at 0c1e570). It is on unless switched off, changes
only what the line leaves open, and does not look at the host's memory while there is a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from launcher.machine.machine import Device
from launcher.plan.check.configuration import Configuration, pool_size
from launcher.plan.memory.budget import free_within
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import FitQuestion, Fitted, Question
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


def seen_by_process(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices with the free memory that llama-server finds, a context of its own on each."""
    return tuple(replace(device, free_bytes=free_within(device)) for device in devices)


def fitted_line(
    configuration: Configuration, asked: FitQuestion, fitted: Fitted, n_ctx_train: int
) -> FittedLine:
    """Return the line as fit leaves it."""
    after = replace(configuration, ctx_size=fitted.ctx_size)
    is_shorter = pool_size(after, n_ctx_train) < pool_size(configuration, n_ctx_train)
    if not is_shorter:  # fit writes down a context that was open
        after = configuration
    is_placed = fitted.n_gpu_layers != asked.question.n_gpu_layers
    if is_placed:
        after = replace(
            after,
            n_gpu_layers=fitted.n_gpu_layers,
            tensor_split=fitted.tensor_split,
            overrides=fitted.overrides,
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


def declines(configuration: Configuration, n_devices: int) -> str | None:
    """Return why fit would not place layers: the first thing that common_params_fit_impl finds."""
    many = n_devices > 1
    reasons = (
        (configuration.split_mode is SplitMode.TENSOR, "it declines --split-mode tensor"),
        (not n_devices, "without a device it only shortens the context"),
        (configuration.layers_given, "-ngl is given"),
        (many and any(configuration.tensor_split), "-ts is given"),
        (many and configuration.split_mode is SplitMode.ROW, "it declines --split-mode row"),
        (configuration.overrides, "an override of tensors is given (-ot, --cpu-moe, --n-cpu-moe)"),
    )
    return next((why for holds, why in reasons if holds), None)


def _open_context(configuration: Configuration) -> int:
    """Return the context as llama-server hands it to fit, 0 if it is open."""
    if configuration.ctx_size is None and configuration.ctx_per_slot:
        return configuration.ctx_per_slot * configuration.n_parallel
    return configuration.ctx_size or 0
