"""Read a plan back from its versioned JSON (`schema: 1`, written by as_json). Pure.

Records and lock files may be damaged, hostile, or written by an older version of this program: fields that
schema 1 did not always have get the value they stood for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launcher.errors import UsageError
from launcher.machine.machine import MAX_DEVICES, Peer, parse_cpu_list
from launcher.plan.amounts import HOST, MOST_CERTAIN_FIRST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.as_json import PLAN_SCHEMA, plan_json
from launcher.plan.modes import (
    CacheType,
    Dialect,
    FlashAttention,
    LazyMode,
    LoadMode,
    NumaMode,
    Pooling,
    TensorOverride,
)
from launcher.plan.plan import Placement, Plan
from launcher.system.json_object import JsonObject, Malformed

if TYPE_CHECKING:
    from launcher.plan.forecast.turn import Forecast

# Above every real figure; nothing that is read is used to size anything without one of these limits.
_MAX_BYTES = 1 << 56
_MAX_TOKENS = 1 << 40
_MAX_SLOTS = 1 << 20
_MAX_LAYERS = 1 << 16

_PARTS = ("weights", "kv", "compute", "cache", "overhead")
"""Of a ledger row, by their names in the document; `extra` was added within the schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan as a file holds it: the whole document, and the plan in it or the problem with it."""

    # Kept as it is: it may say more than the plan (a lock has the alternatives), or be of a version that
    # this program cannot read.
    document: Mapping[str, object]
    plan: Plan | None
    problem: str | None = None


VLLM = "vllm"  # the engine that a plan for it names


def stored(plan: Plan) -> StoredPlan:
    return StoredPlan(document=plan_json(plan), plan=plan)


def read_stored(document: Mapping[str, object]) -> StoredPlan:
    if document.get("engine") == VLLM:  # its plans are no llama.cpp's, and nothing is wrong with that
        return StoredPlan(document=document, plan=None)
    try:
        return StoredPlan(document=document, plan=from_json(document))
    except UsageError as error:
        return StoredPlan(document=document, plan=None, problem=error.message)


def from_json(document: object) -> Plan:
    """Return the plan whose `plan_json` is `document`; a speed of its forecast has two decimals.

    Raises UsageError with one sentence for a document of another schema, and for a field that is missing, of
    the wrong type or absurd.
    """
    try:
        return _plan(JsonObject(document))
    except Malformed as error:
        raise UsageError(
            f"the plan cannot be read: {error}", hint="launcher plan REF makes a new one"
        ) from error


def _plan(given: JsonObject) -> Plan:
    if (schema := given.whole("schema")) != PLAN_SCHEMA:
        raise given.malformed("schema", f"is {schema}; this launcher reads {PLAN_SCHEMA}")
    unverified = given.optional_text("unverified")
    if unverified is None and not given.flag("fits"):
        raise given.malformed("fits", "is false: it says what is missing, and is no plan")
    model, context, settings = (
        given.object_at("model"),
        given.object_at("context"),
        given.object_at("settings"),
    )
    return Plan(
        model_id=model.text("id"),
        source=model.text("source"),
        quant=given.text("quant"),
        size_bytes=model.whole("size_bytes", 0, _MAX_BYTES),
        ctx_size=context.whole("tokens", 0, _MAX_TOKENS),
        n_parallel=context.whole("slots", 0, _MAX_SLOTS),
        cache_type_k=settings.choice("cache_type_k", CacheType),
        cache_type_v=settings.choice("cache_type_v", CacheType),
        batch_size=settings.whole("batch_size", 0, _MAX_TOKENS),
        ubatch_size=settings.whole("ubatch_size", 0, _MAX_TOKENS),
        flash_attn=_flash_attn(settings),
        embedding=settings.has("embedding") and settings.flag("embedding"),
        pooling=settings.choice("pooling", Pooling) if settings.has("pooling") else None,
        op_offload=settings.flag("op_offload") if settings.has("op_offload") else True,
        load_mode=settings.choice("load_mode", LoadMode),
        lazy_mode=settings.choice("lazy_mode", LazyMode) if settings.has("lazy_mode") else LazyMode.AUTO,
        cache_ram_bytes=settings.whole("cache_ram_bytes", 0, _MAX_BYTES),
        ctx_checkpoints=settings.whole("ctx_checkpoints", 0, _MAX_SLOTS),
        threads=settings.whole("threads", 0, _MAX_SLOTS),
        dialect=settings.choice("dialect", Dialect) if settings.has("dialect") else Dialect.LLAMA_CPP,
        placement=_placement(given.object_at("placement")),
        peers=_peers(given),
        ledger=_ledger(given),
        reasons=given.texts("reasons"),
        numa=settings.choice("numa", NumaMode) if settings.has("numa") else None,
        cpus=_cpus(settings),
        forecast=_forecast(given.object_at("forecast")) if given.has("forecast") else None,
        simulated_by=given.optional_text("simulated_by"),
        unverified=unverified,
    )


def _peers(given: JsonObject) -> tuple[Peer, ...]:
    peers = given.objects_at("peers") if given.has("peers") else ()
    if len(peers) > MAX_DEVICES:
        raise given.malformed("peers", f"has {len(peers)} devices; llama.cpp takes {MAX_DEVICES}")
    return tuple(
        Peer(endpoint=peer.text("endpoint"), index=peer.whole("index", 0, MAX_DEVICES)) for peer in peers
    )


def _flash_attn(settings: JsonObject) -> FlashAttention:
    if not settings.has("flash_attn"):
        return FlashAttention.AUTO
    return FlashAttention.ON if settings.flag("flash_attn") else FlashAttention.OFF


def _cpus(settings: JsonObject) -> tuple[int, ...]:
    text = settings.optional_text("cpus")
    cpus = () if text is None else parse_cpu_list(text)
    if cpus is None:
        raise settings.malformed("cpus", "is not a list of CPUs like 0-3,8")
    return cpus


def _placement(given: JsonObject) -> Placement:
    n_block = given.whole("n_block", 0, _MAX_LAYERS)
    placement = Placement(
        n_block=n_block,
        n_gpu_layers=given.whole("n_gpu_layers", 0, n_block + 1),
        devices=given.texts("devices"),
        tensor_split=given.wholes("tensor_split", 0, n_block + 1),
        host_expert_blocks=given.wholes("host_expert_blocks", 0, n_block),
        host_expert_parts=tuple(
            (part.whole("block", 0, n_block), part.texts("kinds"))
            for part in _objects(given, "host_expert_parts")
        ),
        overrides=tuple(
            _override(given, rule) for rule in (given.texts("overrides") if given.has("overrides") else ())
        ),
        paged_bytes=given.optional_whole("paged_bytes", 0, _MAX_BYTES) or 0,
    )
    if len(placement.tensor_split) != len(placement.devices):
        raise given.malformed("tensor_split", "has not one number for each device")
    if sum(placement.tensor_split) != placement.n_gpu_layers:
        raise given.malformed("tensor_split", "does not sum to n_gpu_layers")
    return placement


def _objects(given: JsonObject, key: str) -> tuple[JsonObject, ...]:
    return given.objects_at(key) if given.has(key) else ()


def _override(given: JsonObject, text: str) -> TensorOverride:
    """Undo `overrides.format_override`."""
    pattern, equals, where = text.partition("=")
    if not equals:
        raise given.malformed("overrides", "has a rule without a place")
    return TensorOverride(pattern=pattern, where=HOST if where == "CPU" else where)


def _ledger(given: JsonObject) -> tuple[LedgerRow, ...]:
    rows = tuple(_row(row, row.text("id"), row.text("name")) for row in given.objects_at("devices"))
    return (*rows, _row(given.object_at("host"), HOST, HOST)) if given.has("host") else rows


def _row(given: JsonObject, where: str, name: str) -> LedgerRow:
    basis = given.object_at("basis")
    bands = given.object_at("bands") if given.has("bands") else None

    def amount(part: str) -> Amount:
        return Amount(
            n_bytes=given.whole(f"{part}_bytes", 0, _MAX_BYTES),
            basis=basis.choice(part, Basis),
            band_bytes=0 if bands is None else bands.whole(part, 0, _MAX_BYTES),
        )

    amounts = {part: amount(part) for part in _PARTS}
    amounts["adapters"] = amount("extra") if given.has("extra_bytes") else NOTHING
    if bands is None:
        # Documents from before `bands` have the sum alone, and nearly all of it is the least sure amount's.
        widest = max(amounts, key=lambda part: MOST_CERTAIN_FIRST.index(amounts[part].basis))
        amounts[widest] = replace(amounts[widest], band_bytes=given.whole("band_bytes", 0, _MAX_BYTES))
    budget = given.whole("budget_bytes", -_MAX_BYTES, _MAX_BYTES)
    row = LedgerRow(
        where=where,
        name=name,
        budget_bytes=budget,
        shared_bytes=given.optional_whole("shared_bytes", 0, _MAX_BYTES) or 0,
        file_bytes=given.optional_whole("file_bytes", 0, _MAX_BYTES) or 0,
        **amounts,
    )
    # Stored twice, so a damaged file is found out: memory is claimed and limited by this number.
    if given.whole("used_bytes") != row.used_bytes:
        raise given.malformed("used_bytes", "is not the sum of its amounts")
    return row


def _forecast(given: JsonObject) -> Forecast:
    # Imported only where there is one: a supervisor reads plans, and stays small without the forecast's
    # tables.
    from launcher.plan.forecast.turn import Band, Forecast, Turn  # noqa: PLC0415

    def band(key: str) -> Band:
        value = given.object_at(key)
        return Band(low=value.number("low"), mid=value.number("mid"), high=value.number("high"))

    turn = given.object_at("turn")
    return Forecast(
        turn=Turn(
            cached_tokens=turn.whole("cached_tokens", 0, _MAX_TOKENS),
            prompt_tokens=turn.whole("prompt_tokens", 0, _MAX_TOKENS),
            reply_tokens=turn.whole("reply_tokens", 0, _MAX_TOKENS),
        ),
        decode=band("decode_tps"),
        prefill=band("prefill_tps"),
        turn_seconds=band("turn_seconds"),
        assumptions=given.texts("assumptions"),
        measured=given.optional_text("measured"),
    )
