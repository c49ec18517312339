from pathlib import Path

from launcher.machine.machine import Backend, Link
from launcher.machine.probe.amd import amd_devices, note_gtt_limit, read_cards
from launcher.machine.probe.proc_files import KernelFiles
from launcher.units import GIB, MIB
from tests.machine.probe.trees import plant

CARD = "/sys/class/drm/card0/device"


def test_strix_halo_is_one_pool(tmp_path: Path) -> None:
    files = plant(tmp_path, "amd_strix_halo.txt")
    cards = read_cards(files)
    (device,), notes = amd_devices(cards, Backend.VULKAN, 110 * GIB)
    assert (device.id, device.name) == ("Vulkan0", "AMD Radeon 8060S (Strix Halo)")
    assert (device.total_bytes, device.carve_out_bytes) == (120 * GIB + 512 * MIB, 512 * MIB)
    assert device.free_bytes == 256 * MIB + 110 * GIB  # of the GTT no more than the host has
    assert (device.shares_host_memory, device.link, device.uuid, device.display) == (True, None, None, True)
    (note,) = notes
    assert note.startswith("AMD Radeon 8060S (Strix Halo) shares the host's memory: 512.0 MiB set aside")
    assert note.endswith("and up to 120.0 GiB mapped from RAM (GTT), one pool")
    assert "ttm.pages_limit=31457280" in note_gtt_limit(files, cards)[0]


def test_card_behind_its_own_bridge_and_an_apu(tmp_path: Path) -> None:
    files = plant(tmp_path, "amd_7900xtx_and_raphael.txt")
    (card, apu), _ = amd_devices(read_cards(files), Backend.HIP, 16 * GIB)
    assert (card.id, card.name, card.total_bytes) == ("ROCm0", "AMD Radeon RX 7900 XTX / XT", 24560 * MIB)
    assert card.free_bytes == 23536 * MIB
    assert card.link == Link(pcie_generation=4, pcie_width=8)  # the slot's, not the bridge's inner x16
    assert (card.uuid, card.shares_host_memory, card.display) == ("GPU-1a2b3c4d5e6f7081", False, False)
    assert (apu.id, apu.shares_host_memory) == ("ROCm1", True)
    assert note_gtt_limit(files, ()) == ()


def test_unknown_card_has_its_pci_id_and_unknown_use(tmp_path: Path) -> None:
    files = plant(
        tmp_path,
        **{
            f"{CARD}/vendor": "0x1002",
            f"{CARD}/device": "0x9999",
            f"{CARD}/mem_info_vram_total": str(8 * GIB),
        },
    )
    (device,), notes = amd_devices(read_cards(files), Backend.HIP, GIB)
    assert (device.name, device.free_bytes, device.link, device.display) == (
        "AMD GPU 1002:9999",
        None,
        None,
        None,
    )
    assert notes == ()


def test_new_apu_is_known_by_its_metrics(tmp_path: Path) -> None:
    files = plant(
        tmp_path,
        **{
            f"{CARD}/vendor": "0x1002",
            f"{CARD}/device": "0x9999",
            f"{CARD}/mem_info_vram_total": "536870912",
        },
    )
    metrics = files.at(f"{CARD}/gpu_metrics")
    metrics.write_bytes(b"\x78\x00\x03\x00" + bytes(40))
    assert [card.is_apu for card in read_cards(files)] == [True]
    metrics.write_bytes(b"\x78\x00\x01\x03")
    assert [card.is_apu for card in read_cards(files)] == [False]


def test_product_name_wins(tmp_path: Path) -> None:
    files = plant(
        tmp_path,
        "amd_7900xtx_and_raphael.txt",
        **{f"{CARD}/product_name": "AMD Instinct MI300X OAM", f"{CARD}/x": ""},
    )
    assert read_cards(files)[0].name == "AMD Instinct MI300X OAM"


def test_other_vendors_and_garbage_are_no_cards(tmp_path: Path) -> None:
    assert read_cards(KernelFiles(root=tmp_path)) == ()
    files = plant(
        tmp_path,
        **{
            f"{CARD}/vendor": "0x10de",
            f"{CARD}/mem_info_vram_total": "1",
            "/sys/class/drm/card1/device/vendor": "0x1002",
            "/sys/class/drm/card1/device/mem_info_vram_total": "lots",
        },
    )
    assert read_cards(files) == ()


def test_mi300a_has_the_hosts_memory_and_no_carve_out(tmp_path: Path) -> None:
    files = plant(
        tmp_path,
        **{
            f"{CARD}/vendor": "0x1002",
            f"{CARD}/device": "0x74a0",
            f"{CARD}/mem_info_vram_total": str(120 * GIB),
            f"{CARD}/mem_info_vram_used": str(20 * GIB),
            f"{CARD}/mem_info_gtt_total": str(60 * GIB),
        },
    )
    (device,), _ = amd_devices(read_cards(files), Backend.HIP, 110 * GIB)
    assert (device.total_bytes, device.free_bytes) == (120 * GIB, 100 * GIB)
    assert (device.shares_host_memory, device.carve_out_bytes) == (True, 0)
