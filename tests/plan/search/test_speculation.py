"""Whether drafts by a model's own MTP blocks pay, and what they take."""

from __future__ import annotations

import pytest

from launcher.engine.flags.companion_flags import read_companions
from launcher.models.local import open_path
from launcher.plan.as_json import plan_json
from launcher.plan.companions import Companions, speculation_fields
from launcher.plan.modes import CacheType, Pooling
from launcher.plan.search.choice import Choice, Speculation
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.make_drafters import make_mtp
from tests.plan.search.searches import choose, small
from tests.plan.shapes import device, machine

CTX = 32768
CACHE_OF_BLOCK = CTX * 2 * 2 * 256 * 2  # cells, K and V, heads, their size, F16
STATE = 4 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096)  # floats of one recurrent block: window, state


@pytest.fixture(scope="module")
def offer(tmp_path_factory: pytest.TempPathFactory) -> Offer:
    path = make_mtp(tmp_path_factory.mktemp("mtp") / "mtp.gguf", n_main=16)
    return Offer(quant="Q8_0", model=open_path(path).model)


def planned(offer: Offer, free_bytes: int, *flags: str) -> Choice:
    request = read_companions(flags)
    companions = Companions(mtp=request.mtp, **speculation_fields(request))
    workload = Workload(ctx_size=CTX, ubatch_size=512, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    box = machine(device(0, free_bytes))
    return search([offer], Task(machine=box, workload=workload, companions=companions))


def found(choice: Choice) -> Speculation:
    assert choice.plan is not None, choice.shortfall
    assert choice.speculation is not None
    assert choice.speculation.text in choice.plan.reasons
    return choice.speculation


def block_weights(offer: Offer) -> int:
    return sum(tensor.size_bytes for tensor in offer.model.tensors if tensor.name.startswith("blk.16."))


def test_drafts_that_have_room_pay(offer: Offer) -> None:
    speculation = found(planned(offer, 24 * GIB))
    assert (speculation.fits, speculation.pays, speculation.used) == (True, True, False)
    assert speculation.decode_tps is not None
    assert speculation.decode_tps > 1.1 * speculation.plain_tps
    assert "70% of them right" in speculation.text
    assert f"they pay: add -- {speculation.flags}" in speculation.text


def test_their_memory_is_weights_cache_and_states(offer: Offer) -> None:
    """And compute, an estimate."""
    speculation = found(planned(offer, 24 * GIB))
    counted = block_weights(offer) + CACHE_OF_BLOCK + 12 * STATE * speculation.n_draft
    assert 0 < speculation.memory_bytes - counted < 256 * MIB
    per_token = 4 * CACHE_OF_BLOCK / CTX  # four blocks of the model have such a cache
    assert speculation.ctx_tokens == round(speculation.memory_bytes / per_token)


def test_drafts_that_push_layers_to_the_host_do_not_pay(offer: Offer) -> None:
    least = next(
        free
        for free in range(2 * GIB, 8 * GIB, 64 * MIB)
        if (plan := planned(offer, free).plan) is not None and plan.placement.n_gpu_layers == 18
    )
    speculation = found(planned(offer, least))
    assert not speculation.pays
    assert "they do not pay" in speculation.text


def test_drafts_that_are_asked_for_are_in_the_plan(offer: Offer) -> None:
    plain, drafting = planned(offer, 24 * GIB), planned(offer, 24 * GIB, "--spec-type", "draft-mtp")
    speculation = found(drafting)
    assert (speculation.used, speculation.n_draft) == (True, 3)
    assert speculation.text.endswith("they pay")
    assert plain.plan is not None
    assert drafting.plan is not None
    assert drafting.plan.n_rs_seq == 3
    before, after = plain.plan.ledger[0], drafting.plan.ledger[0]
    assert after.weights.n_bytes - before.weights.n_bytes == block_weights(offer)
    assert after.kv.n_bytes - before.kv.n_bytes == CACHE_OF_BLOCK + 12 * STATE * 3
    assert after.compute.n_bytes > before.compute.n_bytes


def test_the_document_has_the_numbers(offer: Offer) -> None:
    choice = planned(offer, 24 * GIB)
    assert choice.plan is not None
    document = plan_json(choice.plan, choice=choice)["speculation"]
    assert document["flags"].startswith("--spec-type draft-mtp")
    assert document["memory_bytes"] == found(choice).memory_bytes


def test_nothing_is_said_of_a_model_without_mtp_blocks() -> None:
    assert choose(small(), machine(device(0, 24 * GIB))).speculation is None


def test_a_server_of_embeddings_drafts_nothing(offer: Offer) -> None:
    workload = Workload(ctx_size=CTX, embedding=True, pooling=Pooling.MEAN)
    choice = search([offer], Task(machine=machine(device(0, 24 * GIB)), workload=workload))
    assert choice.plan is not None
    assert choice.speculation is None


def test_nothing_is_said_where_something_else_drafts(offer: Offer) -> None:
    assert planned(offer, 24 * GIB, "--spec-type", "ngram-mod").speculation is None
