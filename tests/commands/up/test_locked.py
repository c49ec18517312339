"""What `up --locked` reserves before it starts anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.lock import read_lock, write_lock
from launcher.commands.plan import plan_on
from launcher.commands.planned import PlanRequest
from launcher.commands.up import locked
from launcher.commands.up.request import UpRequest
from launcher.commands.up.start import Attempt
from launcher.deployment.claims import Claim, read_claims
from launcher.errors import EngineFailed
from launcher.plan.workload import Workload
from tests.commands.test_lock import ENGINE, KNOWN
from tests.make_gguf import make_gguf
from tests.plan.shapes import cards, machine


def test_memory_is_claimed_by_uuid_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another launcher looks for its GPU by UUID: a claim on CUDA0 would protect nothing."""
    make_gguf(tmp_path / "m.gguf", "qwen3moe")
    here = here_with()
    request = PlanRequest(ref=str(tmp_path / "m.gguf"), workload=Workload(ctx_size=512))
    (card,) = cards(250)
    box = machine(replace(card, uuid="GPU-7"))
    write_lock(plan_on(here, request, inspect(here, request.ref), box, None), tmp_path / "lock.json")
    lock = read_lock(tmp_path / "lock.json")
    assert card.id in lock.rows
    seen: list[Claim] = []

    def refuse(*_: Any) -> NoReturn:
        seen.extend(read_claims(here.settings.claims_dir))
        raise EngineFailed("enough")

    monkeypatch.setattr(locked, "start", refuse)
    attempt = Attempt(
        request=UpRequest(plan=request),
        name="x",
        request_hash="",
        model_path=tmp_path / "m.gguf",
        companion_paths=(),
        engine=ENGINE,
        capabilities=KNOWN,
        machine=box,
    )
    with pytest.raises(EngineFailed):
        locked._start_locked(here, attempt, lock, 1, lambda _: ())
    (claim,) = seen
    assert claim.rows["GPU-7"] == lock.rows[card.id]
    assert card.id not in claim.rows
    assert read_claims(here.settings.claims_dir) == ()
