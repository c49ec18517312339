import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from launcher.deployment.claims import (
    Claim,
    claim_key,
    drop_claim,
    hold_planning_lock,
    read_claims,
    write_claim,
)
from launcher.deployment.identity import ProcessId, identify
from launcher.plan.amounts import RAM
from tests.serving import python, until


def me() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


def test_a_claim_holds_while_its_process_lives(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    write_claim(folder, "a", Claim(name="a", process=me(), rows={"GPU-1": 10, RAM: 1 << 50}))
    assert [claim.name for claim in read_claims(folder)] == ["a"]
    assert read_claims(folder, but_not="a") == ()
    dead = replace(me(), start_time=me().start_time - 1)
    write_claim(folder, "b", Claim(name="b", process=dead, rows={"GPU-1": 10}))
    assert [claim.name for claim in read_claims(folder)] == ["a"]
    assert not (folder / "b.claim").exists()
    drop_claim(folder, "a")
    assert read_claims(folder) == ()


def test_nonsense_in_a_shared_folder_is_nothing(tmp_path: Path) -> None:
    good = {"name": "x", "process": None, "rows": {"GPU-1": 1}, "loaded": False}
    texts = ["", "{", "[]", json.dumps(good), "x" * 100_000, json.dumps({**good, "rows": {"a": "b"}})]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.claim").write_text(text)
    (tmp_path / "link.claim").symlink_to("/etc/passwd")
    assert read_claims(tmp_path) == ()


def test_planning_is_one_at_a_time(tmp_path: Path) -> None:
    held: list[int] = []

    def plan(number: int) -> int:
        with hold_planning_lock(tmp_path):
            held.append(number)
            most = len(held)
            held.remove(number)
            return most

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(plan, range(20))) == {1}


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; "
        "from launcher.deployment.claims import hold_planning_lock\n"
        "with hold_planning_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with python(code, str(tmp_path), stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    with hold_planning_lock(tmp_path):
        until(lambda: True)


def test_one_key_per_deployment(tmp_path: Path) -> None:
    assert claim_key(tmp_path, "a") != claim_key(tmp_path / "other", "a")
    assert str(os.getuid()) in claim_key(tmp_path, "a")
