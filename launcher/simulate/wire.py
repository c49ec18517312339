"""Convert questions and answers to and from JSON objects, for the pipe between client and workers."""

from __future__ import annotations

import dataclasses
from typing import Any

from launcher.machine.machine import Backend, Device, Link, Peer
from launcher.plan.modes import (
    CacheType,
    Dialect,
    FlashAttention,
    LazyMode,
    LoadMode,
    Pooling,
    SplitMode,
    TensorOverride,
)
from launcher.plan.oracle import (
    Answer,
    BufferRow,
    DraftAnswer,
    DraftQuestion,
    FitQuestion,
    Fitted,
    HostTensor,
    ProjectorAnswer,
    ProjectorQuestion,
    Question,
    Refusal,
)

Json = dict[str, Any]


Message = (
    Question
    | Answer
    | DraftQuestion
    | DraftAnswer
    | ProjectorQuestion
    | ProjectorAnswer
    | FitQuestion
    | Fitted
    | Refusal
    | Device
)


def to_json(value: Message) -> Json:
    """Return the fields by name, nested."""
    return dataclasses.asdict(value)  # enums are strings already


def device_from(data: Json) -> Device:
    link, peer = data["link"], data["peer"]
    return Device(
        **{
            **data,
            "backend": Backend(data["backend"]),
            "link": None if link is None else Link(**link),
            "peer": None if peer is None else Peer(**peer),
        }
    )


def question_from(data: Json) -> Question:
    return Question(
        **{
            **data,
            "devices": tuple(device_from(device) for device in data["devices"]),
            "cache_type_k": CacheType(data["cache_type_k"]),
            "cache_type_v": CacheType(data["cache_type_v"]),
            "flash_attn": FlashAttention(data["flash_attn"]),
            "overrides": tuple(TensorOverride(**override) for override in data["overrides"]),
            "tensor_split": tuple(data["tensor_split"]),
            "split_mode": SplitMode(data["split_mode"]),
            "load_mode": LoadMode(data["load_mode"]),
            "lazy_mode": LazyMode(data["lazy_mode"]),
            "pooling": None if data["pooling"] is None else Pooling(data["pooling"]),
            "dialect": Dialect(data["dialect"]),
        }
    )


def answer_from(data: Json) -> Answer:
    return Answer(
        **{
            **data,
            "rows": tuple(BufferRow(**row) for row in data["rows"]),
            "graph_splits": tuple(data["graph_splits"]),
            "host_tensors": tuple(HostTensor(**tensor) for tensor in data["host_tensors"]),
        }
    )


def fit_question_from(data: Json) -> FitQuestion:
    companion = data["companion"]
    return FitQuestion(
        **{
            **data,
            "question": question_from(data["question"]),
            "targets": tuple(data["targets"]),
            "companion": None if companion is None else question_from(companion),
        }
    )


def draft_question_from(data: Json) -> DraftQuestion:
    return DraftQuestion(
        **{
            **data,
            "main": question_from(data["main"]),
            "draft": question_from(data["draft"]),
            "spec_types": tuple(data["spec_types"]),
        }
    )


def fitted_from(data: Json) -> Fitted:
    return Fitted(
        **{
            **data,
            "tensor_split": tuple(data["tensor_split"]),
            "overrides": tuple(TensorOverride(**override) for override in data["overrides"]),
        }
    )


def draft_answer_from(data: Json) -> DraftAnswer:
    rows = {name: tuple(BufferRow(**row) for row in data[name]) for name in ("rows", "growth")}
    return DraftAnswer(**{**data, **rows})


def projector_question_from(data: Json) -> ProjectorQuestion:
    return ProjectorQuestion(
        **{
            **data,
            "devices": tuple(device_from(device) for device in data["devices"]),
            "flash_attn": FlashAttention(data["flash_attn"]),
        }
    )


def projector_answer_from(data: Json) -> ProjectorAnswer:
    return ProjectorAnswer(**{**data, "rows": tuple(BufferRow(**row) for row in data["rows"])})
