"""Damaged and hostile headers end soon and stay small."""

from __future__ import annotations

import random
import tracemalloc

from launcher.errors import BadGguf
from launcher.gguf.header import Header, NeedMore, ValueType, parse_header
from tests.builders import Tensor, Typed, build_header
from tests.gguf.headers import SMALL, TWO, parsed
from tests.make_gguf import make_shards

INT64_MAX = 2**63 - 1


def mutate(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) - 8)
        how = chance.randrange(4)
        if how == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            changed[at : at + 8] = chance.choice(
                [0, 1, 2**20, 2**30, 2**31, 2**60, INT64_MAX, 2**64 - 1]
            ).to_bytes(8, "little")
        elif how == 2:
            changed[at : at + 8] = chance.randbytes(8)
        else:
            del changed[at : at + chance.randrange(1, 64)]
    return bytes(changed)


def test_a_thousand_mutations_end_soon_and_stay_small() -> None:
    sound = [
        make_shards("deepseek2", vocabulary="bpe")[0].header,
        make_shards("gemma3", splits=3)[1].header,
        build_header(SMALL, TWO),
    ]
    chance = random.Random(11434)
    outcomes = {Header: 0, NeedMore: 0, BadGguf: 0}
    longest = 0
    tracemalloc.start()
    try:
        for index in range(1000):
            data = mutate(sound[index % 3], chance)
            try:
                outcomes[type(parse_header(data))] += 1
            except BadGguf as error:
                longest = max(longest, len(error.message))
                outcomes[BadGguf] += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    assert min(outcomes.values()) > 0
    assert longest < 500


def test_the_worst_header_within_the_bounds_stays_small() -> None:
    keys = {f"k{index:05d}": Typed(ValueType.U8, [0] * 100) for index in range(MAX_KV_TRIED)}
    tensors = [Tensor(f"t{index}", (0,)) for index in range(MAX_TENSORS_TRIED)]
    data = build_header(keys, tensors)
    tracemalloc.start()
    try:
        header = parsed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(header.tensors) == MAX_TENSORS_TRIED
    assert peak < 64 << 20


MAX_KV_TRIED = 1 << 14


MAX_TENSORS_TRIED = 1 << 16
