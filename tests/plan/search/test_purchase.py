"""What to buy when nothing fits: the smallest changes, each of which was planned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Backend, Filesystem, Machine
from launcher.plan.amounts import DISK
from launcher.plan.modes import CacheType
from launcher.plan.rope import Rope
from launcher.plan.search.choice import Choice
from launcher.plan.search.purchase import (
    Purchase,
    describe_tried_changes,
    purchases,
    with_more_cards,
    with_more_ram,
)
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.answering import Oracle, holding
from tests.plan.hardware_table import kimi
from tests.plan.search.searches import two_nodes
from tests.plan.shapes import cards, device, machine, model


@pytest.fixture(scope="module")
def bought() -> tuple[Purchase, ...]:
    task = Task(machine=machine(device(0, 24 * GIB), ram_bytes=128 * GIB), workload=Workload(ctx_size=32768))
    offers = [Offer(quant=name, model=kimi(name)) for name in ("INT4", "TQ1_0")]
    return purchases(offers, task, search(offers, task))


def test_the_smallest_memory_that_does_is_named_for_the_smallest_and_the_best_quant(
    bought: tuple[Purchase, ...],
) -> None:
    ram = {one.quant: one.what for one in bought if "RAM" in one.what}
    assert ram["TQ1_0"].startswith("256.0 GiB of RAM instead of 128.0 GiB")
    assert ram["INT4"].startswith("768.0 GiB of RAM")


def test_cards_are_added_one_by_one(bought: tuple[Purchase, ...]) -> None:
    cards = next(one for one in bought if "more a card" in one.what)
    count = int(cards.what.split()[0])
    for number in (count, count - 2):
        box = machine(*(device(index, 24 * GIB) for index in range(number + 1)), ram_bytes=128 * GIB)
        task = Task(machine=box, workload=Workload(ctx_size=32768))
        fits = search([Offer(quant=cards.quant, model=kimi(cards.quant))], task).plan is not None
        assert fits == (number == count)


def test_every_purchase_says_its_speed_and_proof(bought: tuple[Purchase, ...]) -> None:
    assert all(one.decode_tps and "(estimated)" in str(one) for one in bought)


def test_nothing_is_sold_to_whom_has_a_plan() -> None:
    task = Task(machine=machine(), workload=Workload(ctx_size=4096))
    offers = [Offer(quant="q", model=model())]
    assert purchases(offers, task, search(offers, task)) == ()
    assert purchases(offers, task, Choice(plan=None, shortfall=None, rejected=())) == ()


def test_disk_is_a_purchase_too() -> None:
    store = Filesystem(path="/d", type="ext4", total_bytes=GIB, free_bytes=GIB)
    task = Task(machine=replace(machine(), store=store), workload=Workload(ctx_size=4096), limits=Limits())
    offers = [Offer(quant="q", model=model(), fetch_bytes=3 * GIB)]
    choice = search(offers, task)
    assert choice.shortfall is not None
    assert choice.shortfall.where == DISK
    assert purchases(offers, task, choice)[0].what == "2.0 GiB more free on disk"


def test_ram_is_sold_with_the_disk_that_it_needs() -> None:
    store = Filesystem(path="/d", type="ext4", total_bytes=900 * GIB, free_bytes=50 * GIB)
    box = replace(machine(ram_bytes=24 * GIB), store=store)
    offers = [Offer(quant="TQ1_0", model=kimi("TQ1_0"), fetch_bytes=220 * GIB)]
    task = Task(machine=box, workload=Workload(ctx_size=32768))
    what = [one.what for one in purchases(offers, task, search(offers, task))]
    assert what == ["256.0 GiB of RAM instead of 24.0 GiB and 170.0 GiB more free on disk"]


def test_a_limit_of_the_users_own_is_the_first_thing_to_change() -> None:
    offers = [Offer(quant="q", model=model())]
    task = Task(machine=machine(), workload=Workload(ctx_size=4096), limits=Limits(max_ram_bytes=GIB // 4))
    first = purchases(offers, task, search(offers, task))[0]
    assert first.what == "--max-ram 1G"


def test_what_lacks_only_room_on_disk_is_nearer_than_what_lacks_memory() -> None:
    store = Filesystem(path="/d", type="ext4", total_bytes=900 * GIB, free_bytes=50 * GIB)
    box = replace(machine(ram_bytes=400 * GIB), store=store)
    offers = [
        Offer(quant=name, model=kimi(name), fetch_bytes=size * GIB)
        for name, size in (("INT4", 544), ("TQ1_0", 223))
    ]
    short = search(offers, Task(machine=box, workload=Workload(ctx_size=32768))).shortfall
    assert short is not None
    assert (short.quant, short.where, short.missing_bytes) == ("TQ1_0", DISK, 173 * GIB)
    assert short.reasons == (
        "TQ1_0 fits in memory, and not on disk: 223.0 GiB to download, 50.0 GiB free on disk",
    )


SMALL = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)


def bought_for(
    box: Machine, offers: list[Offer] | None = None, workload: Workload = SMALL, limits: Limits | None = None
) -> list[Purchase]:
    offers = offers or [Offer(quant="q", model=model())]
    task = Task(machine=box, workload=workload, limits=limits or Limits())
    return list(purchases(offers, task, search(offers, task)))


def whats(found: list[Purchase]) -> list[str]:
    return [each.what for each in found]


@pytest.mark.parametrize(
    ("total_gib", "free_gib", "first"),
    [(2, 0.5, "32.0 GiB"), (31, 2.5, "32.0 GiB"), (31.5, 2.5, "64.0 GiB"), (32, 2.5, "64.0 GiB")],
)
def test_ram_comes_in_sizes_that_are_sold_and_by_a_gib_at_least(
    total_gib: float, free_gib: float, first: str
) -> None:
    box = replace(machine(ram_bytes=int(total_gib * GIB)), ram_available_bytes=int(free_gib * GIB))
    assert whats(bought_for(box))[-1] == f"{first} of RAM instead of {total_gib:.1f} GiB"


def test_a_container_s_limit_is_raised_and_no_ram_bought_for_it() -> None:
    box = replace(machine(ram_bytes=2 * GIB), ram_available_bytes=GIB // 2, ram_limit_bytes=GIB)
    assert whats(bought_for(box)) == ["a limit of 1.5 GiB instead of 1.0 GiB for this container"]
    # What others on the host hold cannot be had by a limit.
    full = replace(box, host_available_bytes=GIB)
    assert whats(bought_for(full)) == ["32.0 GiB of RAM instead of 2.0 GiB"]


def test_more_ram_is_free() -> None:
    """With 32 GiB, 30.5 are free: 28 in use by others stay so."""
    box = replace(machine(ram_bytes=2 * GIB), ram_available_bytes=GIB // 2)
    short = search([Offer(quant="q", model=model())], Task(machine=box, workload=SMALL)).shortfall
    assert short is not None
    (ram,) = bought_for(box)
    assert ram.what == "32.0 GiB of RAM instead of 2.0 GiB"
    assert (ram.quant, ram.ctx_size, ram.simulated) == ("q", 4096, False)
    assert ram.decode_tps is not None
    assert ram.turn_seconds is not None
    assert (
        str(ram)
        == f"{ram.what}: q at 4096 tokens of context, about {ram.decode_tps:.1f} tokens/s (estimated)"
    )
    plain = replace(ram, decode_tps=None, simulated=True)
    assert str(plain) == f"{ram.what}: q at 4096 tokens of context (simulated)"


def test_memory_that_a_gpu_shares_cannot_be_added_to() -> None:
    metal = device(0, GIB // 2, backend=Backend.METAL, shares_host_memory=True)
    box = machine(metal, ram_bytes=GIB)
    assert whats(bought_for(box)) == ["--from-disk"]  # by the processor alone
    assert describe_tried_changes(box) == "a shorter context"
    assert describe_tried_changes(machine()) == "RAM up to 2.0 TiB, a shorter context"
    card = machine(device(0, GIB))
    assert describe_tried_changes(card) == "RAM up to 2.0 TiB, up to 8 more cards, a shorter context"
    cpu = machine(replace(device(0, GIB), backend=Backend.CPU))
    assert describe_tried_changes(cpu) == describe_tried_changes(machine())


def test_a_shorter_context_is_half_and_half_again() -> None:
    """What does not fit at 262144 tokens does at an eighth, and less than 4096 are never offered."""
    long = Workload(ctx_size=262144, rope=Rope(trained=262144))
    found = whats(bought_for(machine(ram_bytes=2 * GIB), workload=long))
    assert any(what.startswith("a context of ") for what in found)
    (what,) = [what for what in found if what.startswith("a context of ")]
    size = int(what.split()[3])
    assert what == f"a context of {size} tokens (-c {size})"
    offers = [Offer(quant="q", model=model())]

    def fits(ctx_size: int) -> bool:
        task = Task(machine=machine(ram_bytes=2 * GIB), workload=replace(long, ctx_size=ctx_size))
        return search(offers, task).plan is not None

    assert (fits(size), fits(2 * size)) == (True, False)
    f16 = CacheType.F16
    twice = Workload(ctx_size=8192, ubatch_size=512, cache_type_k=f16, cache_type_v=f16, cache_ram_bytes=0)
    shorter = whats(bought_for(machine(ram_bytes=1250 * MIB), workload=twice))[-1]
    assert shorter == "a context of 4096 tokens (-c 4096)"
    least = Workload(ctx_size=4096, ubatch_size=512)
    assert not any("context of" in what for what in whats(bought_for(machine(ram_bytes=GIB), workload=least)))


def test_limits_of_the_users_own_are_loosened_before_anything_is_bought() -> None:
    box = machine(*cards(900), ram_bytes=64 * GIB)
    own = Limits(max_ram_bytes=GIB // 4, gpus=())
    assert whats(bought_for(box, limits=own))[:1] == ["--max-ram 1G"]
    none = Limits(max_ram_bytes=0, gpus=("0",), reserve=(("ram", GIB),))
    assert whats(bought_for(box, limits=none))[0] == "--max-ram 1G"
    box = machine(*cards(900, backend=Backend.VULKAN), ram_bytes=GIB)
    assert whats(bought_for(box, limits=Limits(gpus=())))[0] == "no --gpus"
    reserved = Limits(reserve=(("ram", GIB),))
    assert whats(bought_for(machine(ram_bytes=3 * GIB // 2), limits=reserved))[0] == "no --reserve"


def test_the_least_max_ram_that_does_is_named_to_the_gib() -> None:
    """The quant that is nearest lacks 1 GiB less than the one that is asked for."""
    offers = [Offer(quant="big", model=kimi("TQ1_0"))]
    box = machine(ram_bytes=512 * GIB)
    task = Task(machine=box, workload=SMALL, limits=Limits(max_ram_bytes=100 * GIB))
    choice = search(offers, task)
    assert choice.shortfall is not None
    first = purchases(offers, task, choice)[0].what
    least = (100 * GIB + choice.shortfall.missing_bytes) // GIB
    assert first in {f"--max-ram {least}G", f"--max-ram {least + 1}G"}
    # Beyond what is available there is nothing to loosen.
    tight = replace(task, machine=replace(box, ram_available_bytes=(least - 1) * GIB))
    assert not any("--max-ram" in one.what for one in purchases(offers, tight, search(offers, tight)))


def test_the_better_quant_has_its_own_least_max_ram() -> None:
    """It needs 1.2 GiB, the other 0.6."""
    offers = [Offer(quant="big", model=model(n_block=30)), Offer(quant="small", model=model())]
    found = whats(bought_for(machine(), offers, limits=Limits(max_ram_bytes=0)))
    assert [what for what in found if "--max-ram" in what] == ["--max-ram 1G", "--max-ram 2G"]
    all_of_it = bought_for(machine(ram_bytes=2 * GIB), offers[:1], limits=Limits(max_ram_bytes=GIB))
    assert whats(all_of_it)[0] == "--max-ram 2G"


def test_a_limit_that_does_by_simulation_alone_is_enough() -> None:
    """By our figures 1 GiB is 27 MiB too little, which is less than their doubt."""
    simulator = ModelSimulator(oracle=Oracle(holding({})), path="m.gguf")
    offers = [Offer(quant="q", model=model(n_block=24), simulator=simulator)]
    found = bought_for(machine(), offers, limits=Limits(max_ram_bytes=GIB // 2))
    assert found[0].what == "--max-ram 1G"
    assert found[0].simulated


def test_seven_cards_are_offered_where_fewer_do_not_do() -> None:
    box = machine(device(0, 1755 * MIB, backend=Backend.VULKAN), ram_bytes=GIB)
    assert "7 more a card" in whats(bought_for(box, [Offer(quant="q", model=model(n_block=60))]))


def test_cards_are_like_the_largest_and_idle() -> None:
    """Not as busy as the one that there is: 512 MiB are its driver's."""
    busy = replace(device(0, 2 * GIB, backend=Backend.VULKAN, display=True), free_bytes=GIB, name="big")
    small = replace(device(1, GIB, backend=Backend.VULKAN), name="small")
    box = machine(busy, small, ram_bytes=GIB)
    offers = [Offer(quant="q", model=model(n_block=40))]
    found = [what for what in whats(bought_for(box, offers)) if "more" in what]
    count = int(found[-1].split()[0])
    assert found[-1] == f"{count} more big"
    idle = replace(busy, free_bytes=2 * GIB - GIB // 2, display=False)

    def fits(number: int) -> bool:
        more = tuple(replace(idle, id=f"Vulkan{2 + index}") for index in range(number))
        task = Task(machine=replace(box, devices=(busy, small, *more)), workload=SMALL)
        return search(offers, task).plan is not None

    assert count > 1
    assert (fits(count), fits(count - 1)) == (True, False)


def test_more_ram_is_free_and_in_equal_parts_on_the_nodes() -> None:
    box = two_nodes(64)
    unknown = replace(box.nodes[1], free_bytes=None)
    box = replace(box, nodes=(box.nodes[0], unknown), ram_limit_bytes=GIB)
    more = with_more_ram(box, 10 * GIB)
    assert more.ram_total_bytes - box.ram_total_bytes == 10 * GIB
    assert more.ram_available_bytes - box.ram_available_bytes == 10 * GIB
    assert more.ram_limit_bytes is None
    assert [node.total_bytes // GIB for node in more.nodes] == [384 + 5, 384 + 5]
    assert [node.free_bytes for node in more.nodes] == [385 * GIB, None]
    assert with_more_ram(machine(ram_bytes=GIB), GIB).ram_total_bytes == 2 * GIB


@pytest.mark.parametrize(("total_gib", "taken_mib"), [(24, 512), (25, 512), (50, 1024), (100, 2048)])
def test_more_cards_are_idle_and_numbered_on(total_gib: int, taken_mib: int) -> None:
    card = replace(device(1, total_gib * GIB, display=True), free_bytes=GIB, uuid="GPU-1")
    box = machine(device(0, GIB), card)
    more = with_more_cards(box, card, 2)
    assert [each.id for each in more.devices] == ["CUDA0", "CUDA1", "CUDA2", "CUDA3"]
    assert more.devices[:2] == box.devices
    for new in more.devices[2:]:
        assert (new.uuid, new.display, new.name) == (None, False, card.name)
        assert (total_gib * GIB - (new.free_bytes or 0)) // MIB == taken_mib
    unknown = replace(card, free_bytes=None)
    assert with_more_cards(box, unknown, 1).devices[-1].free_bytes is None


def test_a_disk_that_is_just_large_enough_is_enough() -> None:
    store = Filesystem(path="/d", type="ext4", total_bytes=900 * GIB, free_bytes=50 * GIB)
    box = replace(machine(ram_bytes=GIB), store=store)
    offers = [Offer(quant="q", model=model(), fetch_bytes=50 * GIB)]
    disk, ram = whats(bought_for(box, offers))
    assert disk == "--from-disk"
    assert ram == "32.0 GiB of RAM instead of 1.0 GiB"
    one_more = [replace(offers[0], fetch_bytes=50 * GIB + 1)]
    (ram,) = whats(bought_for(box, one_more))
    assert ram == "32.0 GiB of RAM instead of 1.0 GiB and 1 B more free on disk"
