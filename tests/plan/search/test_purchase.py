"""What to buy when nothing fits: the smallest changes, each of which was planned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Filesystem
from launcher.plan.amounts import DISK
from launcher.plan.search.purchase import Purchase, purchases
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB
from tests.plan.hardware_table import kimi
from tests.plan.shapes import device, machine, model


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
