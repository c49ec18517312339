import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from launcher.deployment.claims import RAM, Claim, drop, key_of, planning, promised, read, write
from launcher.deployment.identity import ProcessId, identify
from tests.serving import python, until


def me() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


def test_a_claim_holds_while_its_process_lives(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    write(folder, "a", Claim(name="a", process=me(), rows={"GPU-1": 10, RAM: 1 << 50}))
    assert [claim.name for claim in read(folder)] == ["a"]
    assert read(folder, but_not="a") == ()
    dead = replace(me(), start_time=me().start_time - 1)
    write(folder, "b", Claim(name="b", process=dead, rows={"GPU-1": 10}))
    assert [claim.name for claim in read(folder)] == ["a"]
    assert not (folder / "b.claim").exists()
    drop(folder, "a")
    assert read(folder) == ()


def test_what_is_taken_is_not_counted_twice() -> None:
    loading = Claim(name="a", process=me(), rows={"GPU-1": 10, RAM: 1 << 50})
    loaded = replace(loading, loaded=True)
    assert promised((loading,))["GPU-1"] == 10
    assert "GPU-1" not in promised((loaded,))
    assert 0 < promised((loaded,))[RAM] < 1 << 50
    assert promised((loading, loading))["GPU-1"] == 20
    assert promised((replace(loading, rows={RAM: 1}),)) == {}


def test_nonsense_in_a_shared_folder_is_nothing(tmp_path: Path) -> None:
    good = {"name": "x", "process": None, "rows": {"GPU-1": 1}, "loaded": False}
    texts = ["", "{", "[]", json.dumps(good), "x" * 100_000, json.dumps({**good, "rows": {"a": "b"}})]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.claim").write_text(text)
    (tmp_path / "link.claim").symlink_to("/etc/passwd")
    assert read(tmp_path) == ()


def test_planning_is_one_at_a_time(tmp_path: Path) -> None:
    held: list[int] = []

    def plan(number: int) -> int:
        with planning(tmp_path):
            held.append(number)
            most = len(held)
            held.remove(number)
            return most

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(plan, range(20))) == {1}


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from launcher.deployment.claims import planning\n"
        "with planning(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with python(code, str(tmp_path), stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    with planning(tmp_path):
        until(lambda: True)


def test_one_key_per_deployment(tmp_path: Path) -> None:
    assert key_of(tmp_path, "a") != key_of(tmp_path / "other", "a")
    assert str(os.getuid()) in key_of(tmp_path, "a")
