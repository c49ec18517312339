"""What a verdict says: who put what where, what fails first, what `--fit` would change."""

from __future__ import annotations

import pytest

from launcher.plan.amounts import HOST
from launcher.units import GIB, MIB
from tests.plan.check.checks import Says, has_reason, verdict
from tests.plan.shapes import cards, machine


def test_experts_of_the_first_blocks_on_the_host_empty_the_wrong_card() -> None:
    found = verdict("-c 512 -ub 128 -ngl 99 --n-cpu-moe 6 -cram 0", machine(*cards(120, 120)))
    assert not found.fits
    assert [(failure.where, failure.stage) for failure in found.failures] == [("CUDA1", "weights")]
    row = found.ledger[1]
    assert found.failures[0].missing_bytes == row.used_bytes - row.budget_bytes
    assert has_reason(found, "mostly CUDA0's, which keeps the experts of 1 block and has")
    assert has_reason(found, "CUDA1 still holds those of 5 blocks")
    assert has_reason(found, "blocks whose experts stay on their device: CUDA0 1 of its 7, CUDA1 5 of its 5")
    assert has_reason(
        found,
        "layers by count, in proportion to free memory: CUDA0 blocks 0-6, CUDA1 blocks 7-11 and the output layer",
    )
    assert has_reason(found, "--fit is on and changes nothing: -ngl is given")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "",
            "--fit is on: llama-server itself would shorten the context, to 4096 tokens at the least and put layers",
        ),
        (
            "-c 8192",
            "--fit is on: llama-server itself would put layers or experts on the host; it takes the host's",
        ),
        (
            "-ts 1,1",
            "shorten the context, to 4096 tokens at the least; it leaves the layers alone, because -ts is given",
        ),
        (
            "-c 8192 -ot x=CPU",
            "changes nothing: an override of tensors (-ot, --cpu-moe, --n-cpu-moe) is given",
        ),
        ("-c 8192 -sm row", "changes nothing: --split-mode row is given"),
    ],
)
def test_what_fit_would_change(line: str, sentence: str) -> None:
    assert has_reason(verdict(line, machine(*cards(10, 10))), sentence)


def test_fit_is_not_mentioned_where_it_is_off_or_nothing_is_short() -> None:
    assert not has_reason(verdict("-fit off", machine(*cards(10, 10))), "--fit")
    assert not has_reason(verdict("-c 4096"), "--fit")


def test_fit_does_not_look_at_the_hosts_memory() -> None:
    found = verdict("-c 4096 -cram 4096", machine(*cards(2000), ram_bytes=4 * GIB))
    assert [(failure.where, failure.stage) for failure in found.failures] == [(HOST, "cache")]
    assert has_reason(found, "--fit is on and changes nothing: it does not look at the host's memory")
    assert has_reason(found, "counted at its limit of 4.0 GiB, as asked")
    assert has_reason(found, "RAM needs")


def test_what_is_only_short_of_the_margin_may_start() -> None:
    found = verdict("-ngl 99 -c 4096", machine(*cards(160)))
    assert [failure.where for failure in found.failures] == ["CUDA0"]
    assert has_reason(found, "CUDA0 needs")
    assert has_reason(found, "kept free there: it may start and fail later")
    # CUDA's margin is 424 MiB; 30 MiB of weights and caches are on the card.
    for short_mib, starts in ((424, True), (425, False)):
        found = verdict("-c 4096", machine(*cards(100)), oracle=Says({"CUDA0": 70 + short_mib}))
        assert found.failures[0].missing_bytes == short_mib * MIB
        assert has_reason(found, "less than the 424.0 MiB kept free there: it may start") is starts


def test_a_prompt_cache_without_limit_is_told_about() -> None:
    found = verdict("-c 4096 -cram -1")
    assert found.ledger[-1].cache.n_bytes == 0
    assert has_reason(found, "the prompt cache has no limit")


def test_a_cache_that_stays_on_the_host() -> None:
    found = verdict("-c 4096 -nkvo")
    assert [row.kv.n_bytes == 0 for row in found.ledger] == [True, True, False]
    assert has_reason(found, "the KV cache is on the host: --no-kv-offload")
    assert not has_reason(verdict("-c 4096"), "--no-kv-offload")
    assert not has_reason(verdict("-c 4096 -nkvo", machine()), "--no-kv-offload")  # where else


def test_devices_that_are_left_out() -> None:
    assert has_reason(verdict("-dev CUDA1 -c 4096"), "CUDA0 not used")
    assert has_reason(verdict("-sm none -c 4096"), "CUDA1 not used: --split-mode none")
    assert has_reason(verdict("-dev none -c 4096"), "everything on the host: no device is used")
    assert has_reason(verdict("-c 4096", machine()), "everything on the host: there is no GPU")
    assert [row.where for row in verdict("-dev CUDA1 -c 4096").ledger] == ["CUDA1", HOST]


def test_a_pattern_that_finds_nothing_is_named() -> None:
    assert has_reason(verdict("-c 4096 -ot exps_typo=CPU"), "-ot exps_typo=host finds no tensor")
    assert not has_reason(verdict("-c 4096 -ncmoe 99"), "finds no tensor")
    assert not has_reason(verdict("-c 4096 -ot exps=CPU"), "finds no tensor")


def test_fit_has_no_layers_to_place_without_devices_and_no_split_to_keep_on_one() -> None:
    tight = machine(ram_bytes=640 * MIB)
    assert has_reason(verdict("", tight), "would shorten the context, to 4096 tokens at the least")
    assert not has_reason(verdict("", tight), "put layers")
    assert not has_reason(verdict("", tight), "unlimited")
    assert not has_reason(verdict("-ngl 99", machine(*cards(10))), "unlimited")
    assert has_reason(verdict("-c 8192", tight), "--fit is on and changes nothing: -c is given")
    for flags in ("-ts 1", "-sm row"):
        assert has_reason(
            verdict(f"-c 8192 {flags}", machine(*cards(10))), "itself would put layers or experts on the host"
        )


def test_one_card_has_its_layers_undivided() -> None:
    found = verdict("-c 4096", machine(*cards(2000)))
    assert "CUDA0 blocks 0-11 and the output layer" in found.reasons
    found = verdict("-c 4096 -ts 1,12", machine(*cards(2000, 2000)))
    assert has_reason(found, "layers by count, in proportion 1:12: CUDA0 block 0, CUDA1 blocks 1-11 and the")


@pytest.mark.parametrize(
    ("line", "ram_mib"),
    [
        ("-ot 'blk\\.(0|7)\\.ffn_.*_exps=CPU'", 64 * 1024),  # both cards lost a block's experts
        ("-ncmoe 6 -dev CUDA0,CUDA1", 700),
    ],
)
def test_an_imbalance_is_named_only_where_one_card_was_emptied_for_another(line: str, ram_mib: int) -> None:
    free_mib = 120 if ram_mib > 1024 else 4000
    found = verdict(
        f"-c 512 -ub 128 -cram 0 {line}", machine(*cards(free_mib, free_mib), ram_bytes=ram_mib * MIB)
    )
    assert found.assignment.moved_blocks
    assert found.failures
    assert not has_reason(found, "layers are split by count, not by bytes")


@pytest.mark.parametrize(
    ("line", "most"),
    [
        ("-c 4096 --embeddings --pooling mean -b 64 -ub 64", 64),
        ("-c 4096 --embeddings -ub 1024", 1024),
        ("-c 4096 --embeddings --pooling last", None),
        ("-c 4096 --rerank", None),
        ("-c 4096", None),
    ],
)
def test_texts_that_are_read_whole(line: str, most: int | None) -> None:
    """The engine answers 500 to 704 tokens with `--pooling mean -ub 64`, and embeds them with `--pooling last`."""
    found = verdict(line)
    assert has_reason(found, "a text is read in one batch") == (most is not None)
    if most is not None:
        assert has_reason(found, f"of more than {most} tokens it is refused, -b N -ub N takes more")
