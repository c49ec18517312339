"""What runs beside the gateway's own models is taken over with its memory."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

from launcher.gateway.admission.state import Phase
from tests.gateway.served import Gateway, Kind, fetch, serving, until


def wait_for(gateway: Gateway, name: str) -> None:
    """Have the gateway do what it does now and then."""
    act = {"look": gateway.keeper.look, "measure": gateway.keeper.measure}[name]
    asyncio.run_coroutine_threadsafe(act(), gateway.loop).result(60)


def test_what_up_started_keeps_its_memory_whatever_is_measured_before_it_is_found(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(0.8), "b": Kind(0.8)}, capacity_gib=2.0) as gateway:
        gateway.deployments.up("mine", 0.8)
        wait_for(gateway, "measure")  # before anybody looks what runs
        wait_for(gateway, "look")
        state = gateway.call(lambda: gateway.keeper.state)
        assert state.models["mine"].phase is Phase.READY
        assert state.models["mine"].pinned
        assert state.capacity == {"ram": 2 << 30}
        # there is room for one beside it, and it stays
        for name in ("a", "b", "a"):
            status, answer = fetch(f"{gateway.url}/v1/chat/completions", {}, BODY % name.encode())
            assert status == 200, answer
        assert "mine" in gateway.deployments.processes
        assert gateway.deployments.most_held_gib <= 2.0


def test_a_reading_from_before_a_model_was_there_counts_its_memory_once(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(0.8)}, capacity_gib=2.0) as gateway:
        before = gateway.deployments.read_memory()
        gateway.deployments.up("mine", 0.8)
        wait_for(gateway, "look")
        gateway.deployments.read_memory = lambda: before  # type: ignore[method-assign]
        wait_for(gateway, "measure")
        assert gateway.call(lambda: gateway.keeper.state.capacity) == {"ram": 2 << 30}


def test_what_up_started_and_ended_leaves_its_memory(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(1.6)}, capacity_gib=2.0) as gateway:
        gateway.deployments.up("mine", 0.8)
        wait_for(gateway, "measure")
        wait_for(gateway, "look")
        gateway.deployments.kill("mine")
        wait_for(gateway, "look")
        until(lambda: gateway.call(lambda: gateway.keeper.state.models["mine"].phase is Phase.OUT))
        assert fetch(f"{gateway.url}/v1/chat/completions", {}, BODY % b"a")[0] == 200


def test_who_lacks_memory_for_a_while_is_told_so_and_served_when_it_is_back(tmp_path: Path) -> None:
    asked = b'{"model": "a", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
    with serving(tmp_path, {"a": Kind(0.8)}, capacity_gib=2.0) as gateway:
        gateway.deployments.capacity_gib = 0.5  # another program took it
        wait_for(gateway, "measure")
        request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", asked)
        with urllib.request.urlopen(request, timeout=60) as answer:
            first = answer.readline()
            gateway.deployments.capacity_gib = 2.0
            rest = answer.read()
    assert first.startswith(b": a is out for ")
    assert b"lacks memory that others have taken" in first
    assert rest.endswith(b"data: [DONE]\n\n")


BODY = b'{"model": "%s", "messages": [{"role": "user", "content": "Hi"}]}'
