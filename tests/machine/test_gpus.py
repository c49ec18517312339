import pytest

from launcher.errors import NotFound
from launcher.machine.gpus import GPU_NAMES, gpu_named, idle_device
from launcher.machine.machine import Backend
from launcher.units import GIB


@pytest.mark.parametrize("name", GPU_NAMES)
def test_every_known_gpu_is_an_idle_device(name: str) -> None:
    gpu = gpu_named(name)
    made = idle_device(gpu, id="X", ram_bytes=128 * GIB)
    assert made.free_bytes is not None
    assert 0.9 * made.total_bytes < made.free_bytes <= made.total_bytes
    assert made.shares_host_memory == (gpu.total_mib is None)
    assert (made.compute_capability is not None) == (made.backend is Backend.CUDA)
    assert gpu_named(gpu.name.partition(" (")[0]).backend is gpu.backend


def test_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        gpu_named("5091")
    assert "5090" in (caught.value.hint or "")


def test_an_unknown_card_can_be_described_in_a_file() -> None:
    with pytest.raises(NotFound) as caught:
        gpu_named("b200")
    assert "--machine" in (caught.value.hint or "")
    assert '[[device]] with backend = "cuda"' in (caught.value.hint or "")
