"""Ask about companions: a draft model or projector as llama-server loads it with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.errors import UsageError
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.companions import HEAD_TYPES, MTP, Companions, Draft, MtpRequest, Projector
from launcher.plan.memory.budget import free_bytes
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import DraftQuestion, ProjectorQuestion, Question

# Drafters that fill a block in one pass, a row of logits for each token (common_base_params_to_speculative).
_BLOCK_TYPES = frozenset({"draft-dflash", "draft-dspark"})


def needs_main_context(spec_types: Sequence[str], model: ModelFile) -> bool:
    """Return whether a draft model cannot be simulated by itself.

    `--spec-type` tells, or the header where that is left open (common_speculative_types_from_gguf).
    """
    if any(name in HEAD_TYPES for name in spec_types):
        return True
    architecture = model.metadata.get("general.architecture")
    return architecture in {"dflash", "eagle3", "gemma4-assistant"} or any(
        ".nextn.eh_proj." in tensor.name for tensor in model.tensors
    )


def types_of_header(model: ModelFile) -> tuple[str, ...]:
    """Return the ways of drafting that llama-server takes from a draft's header where none is named."""
    # common_speculative_types_from_gguf (common/speculative.cpp); the Markov head tells DSpark from DFlash
    architecture = model.metadata.get("general.architecture")
    names = {tensor.name for tensor in model.tensors}
    if architecture == "dflash":
        return ("draft-dspark" if "markov_w1.weight" in names else "draft-dflash",)
    n_block = model.metadata.get(f"{architecture}.block_count")
    last = f"blk.{n_block - 1}.nextn.eh_proj.weight" if isinstance(n_block, int) else ""
    return (MTP,) if last in names else ()


def draft_question(
    draft: Draft, main: Question, devices: Sequence[Device], ledger: Sequence[LedgerRow]
) -> Question:
    """Return the question about a draft model that is loaded with `main`, whose memory is `ledger`.

    Raises UsageError for a device that is not there.
    """
    # The pool, slots, batches and split of `main`; its own layers, devices and cache types
    # (common_base_params_to_speculative, common/speculative.cpp at 0c1e570).
    request = draft.request
    if request.devices is None:
        used = main.devices
    else:
        used = tuple(_device(name, devices, "-devd") for name in request.devices)
    split = main.tensor_split[: len(used)] if len(main.devices) > 1 else ()
    split = split if any(split) else ()
    if len(used) > 1 and not split:
        # llama.cpp splits by free memory, after the main model is loaded.
        used_bytes = {row.where: row.used_bytes for row in ledger}
        used = tuple(
            replace(device, free_bytes=max(free_bytes(device) - used_bytes.get(device.id, 0), 0))
            for device in used
        )
    alone = request.devices is not None and len(used) == 1
    return replace(
        main,
        model=draft.path,
        devices=used,
        split_mode=SplitMode.LAYER if alone else main.split_mode,
        cache_type_k=request.cache_type_k,
        cache_type_v=request.cache_type_v,
        overrides=request.overrides,
        tensor_split=split,
        n_gpu_layers=request.n_gpu_layers,
        n_outputs=None,
        embedding=False,
        pooling=None,
        n_draft=0,
        n_rs_seq=0,
    )


def head_question(
    draft: Draft,
    companions: Companions,
    main: Question,
    devices: Sequence[Device],
    ledger: Sequence[LedgerRow],
) -> DraftQuestion:
    """Return the question about a draft model on the states of `main`, whose memory is `ledger`.

    Raises UsageError for a device that is not there.
    """
    question = draft_question(draft, main, devices, ledger)
    if len(question.devices) > 1 and not question.tensor_split:
        # Both models are simulated on the same devices, so their free memory is said as a split.
        free = tuple(float(free_bytes(device)) for device in question.devices)
        question = replace(question, tensor_split=free if any(free) else ())
    by_id = {device.id: device for device in (*devices, *main.devices)}
    used = tuple(by_id[device.id] for device in question.devices)
    return _beside(replace(question, devices=used), companions, main)


def mtp_question(mtp: MtpRequest, companions: Companions, main: Question) -> DraftQuestion:
    """Return the question about a context on the MTP blocks of `main` itself."""
    question = replace(
        main,
        cache_type_k=mtp.cache_type_k,
        cache_type_v=mtp.cache_type_v,
        n_outputs=None,
        n_draft=0,
        n_rs_seq=0,
    )
    return _beside(question, companions, main)


def _beside(draft: Question, companions: Companions, main: Question) -> DraftQuestion:
    if _BLOCK_TYPES & set(companions.spec_types):
        draft = replace(draft, n_draft=companions.head_length)
    return DraftQuestion(
        main=main,
        draft=draft,
        spec_types=companions.spec_types,
        backend_sampling=companions.backend_sampling,
    )


def projector_question(projector: Projector, main: Question, devices: Sequence[Device]) -> ProjectorQuestion:
    """Return the question about a projector. Raises UsageError for a device that is not there."""
    # The first device in use unless told otherwise (common_params_parse_ex, common/arg.cpp).
    where = projector.request.where
    if where is None:
        where = main.devices[0].id if main.devices else HOST
    used = main.devices
    if where != HOST and where not in {device.id for device in used}:
        used = (*used, _device(where, devices, "-mmdev"))
    return ProjectorQuestion(
        model=projector.path,
        devices=used,
        where=where,
        flash_attn=main.flash_attn,
        image_min_tokens=projector.request.image_min_tokens,
        image_max_tokens=projector.request.image_max_tokens,
    )


def _device(name: str, devices: Sequence[Device], flag: str) -> Device:
    for device in devices:
        if device.id == name:
            return device
    there = ", ".join(device.id for device in devices) or "no device"
    raise UsageError(
        f"{flag} names {name}, and this machine has {there}",
        hint="launcher probe shows the devices",
    )
