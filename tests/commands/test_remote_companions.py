"""What is loaded beside the model and lies somewhere else: brought here by launcher, exactly those files, verified, and
llama-server is told their paths.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import huggingface_hub
import pytest

from launcher.commands.check import Checked, CheckRequest, check_command, check_document
from launcher.commands.companions import find_companions, with_files, with_repo_head
from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.lock import read_lock, write_lock
from launcher.commands.lock_match import companions_of
from launcher.commands.plan import plan_on
from launcher.commands.planned import (
    Planned,
    PlanRequest,
    compile_argv,
    document,
    files_to_bring,
    started_with,
)
from launcher.commands.probe import MachineChoice
from launcher.commands.pull import PullRequest, fetch_all, pull
from launcher.commands.up import start
from launcher.commands.up.request import UpRequest
from launcher.commands.up.start import Attempt
from launcher.deployment.record import Deployment
from launcher.engine.find import Engine, EngineSource
from launcher.engine.flags.argv import Serving
from launcher.errors import (
    EngineFailed,
    HashMismatch,
    Interrupted,
    NotFound,
    TryAgain,
    UsageError,
)
from launcher.models.catalogue import sources_of
from launcher.models.fetch import missing_files
from launcher.models.files import plain_folder
from launcher.models.kept.list import list_stored, pick_stored, stores_here
from launcher.models.kept.remove import remove_stored
from launcher.models.kept.stored_model import StoredModel
from launcher.models.local import open_path
from launcher.models.located import Located, PullOptions
from launcher.models.store import HubStore, store_of
from launcher.plan.check.pace import Point
from launcher.plan.workload import Limits, Workload
from launcher.progress import Step
from launcher.system.settings import read_settings
from launcher.units import GIB
from tests.commands.test_lock import KNOWN
from tests.commands.test_pull import PROFILE
from tests.fakes.hub import FakeHub, Fault
from tests.make_gguf import make_gguf
from tests.make_projector import make_projector
from tests.plan.shapes import machine
from tests.range_server import serve_ranges

MODEL, DRAFT = "user/main-GGUF", "user/draft-GGUF"
SERVING = Serving(host="127.0.0.1", port=1, model_id="m", model_path="m.gguf")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "published"
    folder.mkdir()
    names = (
        "main-Q8_0.gguf",
        "main-Q4_0.gguf",
        "draft-Q4_K_M.gguf",
        "draft-Q8_0.gguf",
        "eagle3-draft-Q8_0.gguf",
    )
    made = {name: make_gguf(folder / name, "llama", metadata={"general.name": name})[0] for name in names}
    made["mmproj-F16.gguf"] = make_projector(folder / "mmproj-F16.gguf")
    return made


@pytest.fixture
def hub(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as running:
        ours = ("main-Q8_0.gguf", "main-Q4_0.gguf", "mmproj-F16.gguf")
        running.publish(MODEL, {name: files[name] for name in ours})
        running.publish(DRAFT, {name: files[name] for name in ("draft-Q4_K_M.gguf", "draft-Q8_0.gguf")})
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        yield running
    huggingface_hub.close_session()


def projector_url(hub: FakeHub) -> str:
    return f"{hub.url}/{MODEL}/resolve/main/mmproj-F16.gguf"


def plan(*flags: str, offline: bool = False, vision: bool = False, limits: Limits | None = None) -> Planned:
    request = PlanRequest(
        ref=f"{MODEL}:Q8_0",
        flags=flags,
        workload=Workload(ctx_size=512),
        limits=limits or Limits(),
        vision=vision,
    )
    here = here_with(offline=offline)
    return plan_on(here, request, inspect(here, request.ref), machine(), None)


def bring(planned: Planned, options: PullOptions | None = None) -> tuple[tuple[Path, ...], ...]:
    return fetch_all(
        here_with(confirm=lambda _: True), files_to_bring(planned), ("again",), options or PullOptions()
    )


def started(planned: Planned, beside: Sequence[tuple[Path, ...]]) -> tuple[str, ...]:
    """What llama-server is started with."""
    there = started_with(planned, [paths[0] for paths in beside])
    assert there.plan is not None
    return compile_argv(there, there.plan, SERVING)


def fetched(hub: FakeHub) -> set[str]:
    """The files whose bytes were asked for in full; a header is read by one range from the beginning."""
    whole = set()
    for repo in hub.repos.values():
        for entries in repo.commits.values():
            for file in entries.values():
                ranges = [seen.range or "" for seen in hub.asked("storage", match=file.sha256)]
                if any(text.endswith(f"-{file.size - 1}") or not text for text in ranges):
                    whole.add(file.name)
    return whole


def value(argv: Sequence[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_without_companions_nothing_but_the_quant_is_fetched(hub: FakeHub) -> None:
    planned = plan()
    hub.seen.clear()
    model, *beside = bring(planned)
    assert ([path.name for path in model], beside) == (["main-Q8_0.gguf"], [])
    assert fetched(hub) == {"main-Q8_0.gguf"}
    assert "--offline" in planned.argv


def test_the_projector_of_the_models_repo_is_taken_where_it_fits(
    hub: FakeHub, files: dict[str, Path]
) -> None:
    planned = plan(vision=True)
    assert planned.projector is not None
    assert (planned.projector.name, planned.projector.left_out) == ("mmproj-F16.gguf", "")
    assert planned.projector.size_bytes == files["mmproj-F16.gguf"].stat().st_size
    _, projector = bring(planned)
    assert fetched(hub) == {"main-Q8_0.gguf", "mmproj-F16.gguf"}
    assert value(started(planned, [projector]), "--mmproj") == str(projector[0])
    assert plan("--no-mmproj", vision=True).projector is None


def test_a_projector_that_does_not_fit_is_left_out_and_the_plan_says_so(hub: FakeHub) -> None:
    blind = plan()
    assert blind.plan is not None
    just_enough = Limits(max_ram_bytes=sum(row.used_bytes for row in blind.plan.ledger))
    planned = plan(vision=True, limits=just_enough)
    assert planned.plan is not None
    assert planned.projector is not None
    assert planned.projector.left_out.startswith("does not fit: RAM is ")
    assert "-mmu" not in planned.argv
    assert planned.plan.reasons[-1].startswith("planned without images: mmproj-F16.gguf does not fit")


def test_a_projector_that_cannot_be_read_is_left_out_and_the_plan_says_so(
    files: dict[str, Path], hub: FakeHub
) -> None:
    files["mmproj-F16.gguf"].write_bytes(b"no GGUF" * 100)
    hub.publish(MODEL, {name: files[name] for name in ("main-Q8_0.gguf", "mmproj-F16.gguf")})
    planned = plan(vision=True)
    assert planned.plan is not None
    assert planned.projector is not None
    assert planned.projector.left_out == "could not be read"
    assert len(files_to_bring(planned)) == 1


def test_a_draft_repo_and_the_models_own_projector_are_fetched_and_named_by_path(
    hub: FakeHub, files: dict[str, Path]
) -> None:
    planned = plan("-hfd", DRAFT, "--mmproj-url", projector_url(hub), "--jinja")
    assert (value(planned.argv, "-hfd"), value(planned.argv, "--mmproj-url")) == (DRAFT, projector_url(hub))
    assert "--offline" not in planned.argv  # who runs the printed line has llama-server fetch them
    assert planned.plan is not None
    assert sum("and starts llama-server with" in reason for reason in planned.plan.reasons) == 2
    hub.seen.clear()

    _, draft, projector = bring(planned)
    assert fetched(hub) == {"main-Q8_0.gguf", "draft-Q4_K_M.gguf", "mmproj-F16.gguf"}
    assert draft[0].read_bytes() == files["draft-Q4_K_M.gguf"].read_bytes()
    assert projector[0].read_bytes() == files["mmproj-F16.gguf"].read_bytes()
    argv = started(planned, [draft, projector])
    assert (value(argv, "-md"), value(argv, "--mmproj")) == (str(draft[0]), str(projector[0]))
    assert not {"-hfd", "--mmproj-url"} & set(argv)
    assert {"--offline", "--jinja"} <= set(argv)

    hub.seen.clear()
    assert bring(planned)[1:] == (draft, projector)
    assert hub.seen == []


def test_the_commit_whose_header_was_planned_is_fetched_though_the_branch_moves(
    hub: FakeHub, files: dict[str, Path]
) -> None:
    planned = plan("-hfd", f"{DRAFT}:Q8_0")
    hub.publish(DRAFT, {"draft-Q8_0.gguf": files["draft-Q4_K_M.gguf"]})
    [[draft]] = bring(planned)[1:]
    assert draft.read_bytes() == files["draft-Q8_0.gguf"].read_bytes()


def test_bytes_that_are_not_the_hubs_never_count(
    hub: FakeHub, files: dict[str, Path], tmp_path: Path
) -> None:
    at = files["draft-Q8_0.gguf"].stat().st_size - 100
    hub.faults.append(
        Fault(match=hashlib.sha256(files["draft-Q8_0.gguf"].read_bytes()).hexdigest(), flip_at=at)
    )
    planned = plan("-hfd", f"{DRAFT}:Q8_0")
    with pytest.raises(HashMismatch, match=r"draft-Q8_0\.gguf of user/draft-GGUF has the sha256"):
        bring(planned)
    assert not list((tmp_path / "hf").rglob("draft-Q8_0.gguf"))


def test_offline_a_companion_comes_from_the_cache_or_is_named(hub: FakeHub) -> None:
    bring(plan())
    lacking = plan("-hfd", f"{DRAFT}:Q8_0", offline=True)
    assert lacking.plan is not None
    assert any("is not in the ledger" in reason for reason in lacking.plan.reasons)
    with pytest.raises(NotFound, match=f"{DRAFT} is not in .*--offline") as caught:
        bring(lacking)
    assert caught.value.hint
    here = bring(plan("-hfd", f"{DRAFT}:Q8_0"))
    hub.seen.clear()
    assert bring(plan("-hfd", f"{DRAFT}:Q8_0", offline=True)) == here
    assert hub.seen == []


def test_offline_a_plain_url_is_what_was_fetched_from_it(hub: FakeHub, files: dict[str, Path]) -> None:
    with serve_ranges() as server:
        server.files["mm.gguf"] = files["mmproj-F16.gguf"].read_bytes()
        url = f"{server.url}/mm.gguf"
        bring(plan())
        lacking = plan("--mmproj-url", url, offline=True)
        with pytest.raises(NotFound, match=r"mm\.gguf is not here and may not be asked for"):
            bring(lacking)
        [[projector]] = bring(plan("--mmproj-url", url))[1:]
        assert projector.read_bytes() == server.files["mm.gguf"]
        server.requests.clear()
        offline = plan("--mmproj-url", url, offline=True)
        [[again]] = bring(offline)[1:]
        assert (again, server.requests) == (projector, [])
        assert value(started(offline, [(again,)]), "--mmproj") == str(projector)


def test_the_disk_is_asked_for_all_of_them_before_the_first_byte(
    hub: FakeHub, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan("-hfd", f"{DRAFT}:Q8_0", "--mmproj-url", projector_url(hub))
    names = ("main-Q8_0.gguf", "draft-Q8_0.gguf", "mmproj-F16.gguf")
    needed = sum(files[name].stat().st_size for name in names) * 51 // 50
    usage = shutil.disk_usage(files[names[0]])
    hub.seen.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1000))
    with pytest.raises(TryAgain, match=r"beside it, .* need .* on the file system"):
        bring(planned)
    assert hub.seen == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed + 1000))
    assert len(bring(planned)) == 3


def test_pull_takes_the_same_flags_and_prints_all_paths(hub: FakeHub, tmp_path: Path) -> None:
    options = PullOptions(folder=tmp_path / "here")
    flags = ("-hfd", f"{DRAFT}:Q8_0", "-ub", "256", "--mmproj-url", projector_url(hub))
    paths = pull(
        here_with(confirm=lambda _: True), PullRequest(ref=f"{MODEL}:Q8_0", options=options, flags=flags)
    )
    names = ["main-Q8_0.gguf", "draft-Q8_0.gguf", "mmproj-F16.gguf"]
    assert paths == tuple(tmp_path / "here" / name for name in names)
    assert fetched(hub) == set(names)


def test_pull_brings_what_a_profile_has_loaded_beside_its_model(hub: FakeHub, files: dict[str, Path]) -> None:
    size = files["main-Q8_0.gguf"].stat().st_size
    model, _, rest = PROFILE.partition("[quants.wheel]")
    text = (model + rest[rest.index("[[modes]]") :]).replace("Q4_1", "Q8_0")
    text = text.format(
        repo=MODEL,
        file="main-Q8_0.gguf",
        size=size,
        sha256=hashlib.sha256(files["main-Q8_0.gguf"].read_bytes()).hexdigest(),
    )
    text = text.replace("0123456789" * 4, hub.repos[MODEL].branches["main"]).replace(
        "schema = 1", f'schema = 3\nflags = ["--mmproj-url", "{projector_url(hub)}"]'
    )
    folder = read_settings().own_profiles_dir / "models"
    folder.mkdir(parents=True)
    (folder / "tiny.toml").write_text(text)
    paths = pull(here_with(confirm=lambda _: True), PullRequest(ref="tiny"))
    assert [path.name for path in paths] == ["main-Q8_0.gguf", "mmproj-F16.gguf"]


def test_ctrl_c_says_the_command_that_goes_on_with_all_of_them(hub: FakeHub, tmp_path: Path) -> None:
    def interrupt(step: Step) -> None:
        if step.phase == "pull" and step.file == "draft-Q8_0.gguf":
            raise KeyboardInterrupt

    options = PullOptions(folder=tmp_path / "here")
    flags = ("-hfd", f"{DRAFT}:Q8_0")
    with pytest.raises(Interrupted) as caught:
        pull(here_with(interrupt), PullRequest(ref=f"{MODEL}:Q8_0", options=options, flags=flags))
    assert caught.value.hint == f"launcher pull {MODEL}:Q8_0 --dir {tmp_path}/here -- -hfd {DRAFT}:Q8_0"
    paths = pull(
        here_with(confirm=lambda _: True), PullRequest(ref=f"{MODEL}:Q8_0", options=options, flags=flags)
    )
    assert [path.name for path in paths] == ["main-Q8_0.gguf", "draft-Q8_0.gguf", "mmproj-F16.gguf"]


def test_of_a_draft_repo_llama_server_takes_its_head_first(hub: FakeHub, files: dict[str, Path]) -> None:
    heads = ("draft-Q4_K_M.gguf", "eagle3-draft-Q8_0.gguf")
    hub.publish(DRAFT, {name: files[name] for name in heads})
    [one] = plan("-hfd", DRAFT).companions.remote
    assert isinstance(one.file, Located)
    assert (one.file.model.shards[0].name, one.also) == (heads[1], ("--spec-type", "draft-eagle3"))
    [one] = plan("-hfd", DRAFT, "--spec-type", "draft-simple").companions.remote
    assert isinstance(one.file, Located)
    assert (one.file.model.shards[0].name, one.also) == (heads[0], ())
    [one] = plan("-hfd", DRAFT, "-md", heads[1]).companions.remote  # -md is a file of the repo then
    assert isinstance(one.file, Located)
    assert one.file.model.shards[0].name == heads[1]


def test_a_head_in_the_models_own_repo_is_loaded_with_it(hub: FakeHub, files: dict[str, Path]) -> None:
    names = ("main-Q8_0.gguf", "eagle3-draft-Q8_0.gguf")
    hub.publish("user/both-GGUF", {name: files[name] for name in names})
    sources, flags = sources_of(read_settings()), ("--spec-type", "draft-eagle3")
    found = with_repo_head(find_companions(flags, sources), flags, "hf:user/both-GGUF:Q8_0", sources)
    [one] = found.remote
    assert isinstance(one.file, Located)
    assert one.file.model.shards[0].name == names[1]
    assert found.draft is not None
    alone = find_companions(flags, sources)
    assert with_repo_head(alone, flags, f"hf:{MODEL}", sources) == alone
    unknown = with_repo_head(alone, flags, "hf:user/not-there", sources)
    assert "whether the repo has a draft head is not known" in unknown.uncounted[0]


def test_a_lock_holds_the_companions_files(hub: FakeHub, files: dict[str, Path], tmp_path: Path) -> None:
    planned = plan("-hfd", f"{DRAFT}:Q8_0")
    write_lock(planned, tmp_path / "lock.json")
    hub.publish(DRAFT, {"draft-Q8_0.gguf": files["draft-Q4_K_M.gguf"]})
    lock = read_lock(tmp_path / "lock.json")
    assert lock.argv == planned.argv
    [one], [was] = companions_of(lock, sources_of(read_settings())), planned.companions.remote
    assert isinstance(one.file, Located)
    assert isinstance(was.file, Located)
    assert (one.flag, one.file.model) == (was.flag, was.file.model)
    changed = tmp_path / "changed.json"
    sha256 = one.file.model.shards[0].sha256 or ""
    changed.write_text((tmp_path / "lock.json").read_text().replace(sha256, "0" * 64))
    with pytest.raises(UsageError, match=r"draft-Q8_0\.gguf is not the file that"):
        companions_of(read_lock(changed), sources_of(read_settings()))


def test_what_was_brought_is_listed_and_removed(hub: FakeHub, tmp_path: Path) -> None:
    store = HubStore(folder=read_settings().cache_dir / "hub")

    def kept() -> tuple[StoredModel, ...]:
        return list_stored(stores_here(tmp_path / "hf", tmp_path / "models"), store)

    _, [projector] = bring(plan("--mmproj-url", projector_url(hub)))
    model, beside = f"{MODEL}:Q8_0", f"{MODEL}:mmproj-F16.gguf"
    assert sorted(one.name for one in kept()) == [model, beside]
    [one] = pick_stored(kept(), [beside])
    assert remove_stored(one, store) == one.size_bytes
    assert ([one.name for one in kept()], projector.exists()) == ([model], False)


def test_what_would_load_another_model_is_refused(hub: FakeHub) -> None:
    with pytest.raises(UsageError, match="-hf after -- is launcher's to set"):
        plan("-hf", DRAFT)


def test_what_fits_instead_of_a_checked_line_fetches_as_the_line_did(hub: FakeHub, tmp_path: Path) -> None:
    (long,) = make_gguf(tmp_path / "long-Q8_0.gguf", "llama", numbers={"n_ctx": 1 << 20}, hollow=True)
    hub.publish("user/long-GGUF", {long.name: long})
    words = ("llama-server", "-hf", "user/long-GGUF:Q8_0")
    checked = check_command(here_with(), CheckRequest(words=words, machine=MachineChoice(ram_bytes=2 * GIB)))
    assert not checked.verdict.fits
    assert value(checked.argv, "-hf") == "user/long-GGUF:Q8_0"
    assert "--offline" not in checked.argv
    checked = check_command(
        here_with(), CheckRequest(words=(*words, "--offline"), machine=MachineChoice(ram_bytes=2 * GIB))
    )
    assert checked.argv.count("--offline") == 1


def test_no_speed_is_forecast_for_more_than_a_request_can_have(hub: FakeHub, tmp_path: Path) -> None:
    (file,) = make_gguf(tmp_path / "long-Q8_0.gguf", "llama", hollow=True)
    words = ("llama-server", "-m", str(file), "-c", "1024", "-np", "1")

    def checked(depth: int) -> Checked:
        at = Point(depth=depth, prompt=512)
        return check_command(here_with(), CheckRequest(words=words, at=at))

    assert checked(512).forecast is not None
    deep = checked(513)
    assert deep.forecast is None
    assert any("513" in note and "1024" in note for note in deep.notes)


def test_the_secrets_of_a_companions_url_are_not_printed_and_not_kept(
    hub: FakeHub, files: dict[str, Path], tmp_path: Path
) -> None:
    with serve_ranges() as server:
        server.files["mm.gguf"] = files["mmproj-F16.gguf"].read_bytes()
        address = f"{server.url}/mm.gguf"
        url = address.replace("://", "://user:PASS@") + "?sig=SECRET"
        planned = plan("-mmu", url)
        assert planned.plan is not None
        kept = json.dumps([document(planned), planned.argv, planned.plan.reasons])
        assert address in kept
        assert not {word for word in ("PASS", "SECRET") if word in kept}
        assert any("secrets of the URL" in reason for reason in planned.plan.reasons)
        _, projector = bring(planned)
        argv = started(planned, [projector])
        assert value(argv, "--mmproj") == str(projector[0])
        assert not {word for word in argv if "PASS" in word or "SECRET" in word}
        with pytest.raises(UsageError, match=r"the projector .*mm\.gguf is behind a plain URL") as caught:
            write_lock(planned, tmp_path / "lock.json")
        assert "SECRET" not in f"{caught.value.message} {caught.value.hint}"
        server.files.clear()
        lacking = plan("-mmu", url).companions.notes
        assert len(lacking) == 1
        assert not {word for word in ("PASS", "SECRET") if word in lacking[0]}


def test_a_lock_keeps_no_secret_of_a_companions_url(hub: FakeHub, tmp_path: Path) -> None:
    url = projector_url(hub).replace("://", "://user:PASS@") + "?sig=SECRET"
    write_lock(plan("-mmu", url), tmp_path / "lock.json")
    text = (tmp_path / "lock.json").read_text()
    assert projector_url(hub) in text
    assert not {word for word in ("PASS", "SECRET") if word in text}


def test_the_command_that_goes_on_shows_no_secret_and_says_that_it_lacks_one(hub: FakeHub) -> None:
    def interrupt(step: Step) -> None:
        if step.phase == "pull":
            raise KeyboardInterrupt

    flags = ("-mmu", projector_url(hub).replace("://", "://user:PASS@") + "?sig=SECRET")
    with pytest.raises(Interrupted) as caught:
        pull(here_with(interrupt), PullRequest(ref=f"{MODEL}:Q8_0", flags=flags))
    assert caught.value.hint == (
        f"launcher pull {MODEL}:Q8_0 -- -mmu {projector_url(hub)}: with the whole URL, whose secrets are not shown"
    )


def test_a_checked_line_shows_no_secret(hub: FakeHub, tmp_path: Path) -> None:
    (long,) = make_gguf(tmp_path / "long-Q8_0.gguf", "llama", numbers={"n_ctx": 1 << 20}, hollow=True)
    hub.publish("user/long-GGUF", {long.name: long})
    words = ("llama-server", "-hf", "user/long-GGUF:Q8_0", "-mmu", projector_url(hub) + "?sig=SECRET")
    checked = check_command(here_with(), CheckRequest(words=words, machine=MachineChoice(ram_bytes=2 * GIB)))
    assert value(checked.argv, "-mmu") == projector_url(hub)
    assert "SECRET" not in json.dumps([check_document(checked), checked.notes, checked.corrected])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("hello",), "'hello' after -- is not a flag"),
        (("https://u:PASS@h/f.gguf",), "a URL after -- is not a flag"),
        (("--bogus-flag",), "this llama-server has no flag --bogus-flag"),
        (("-hf", "other/repo"), "-hf after -- is launcher's to set"),
        (("--api-key", "k"), "--api-key after -- is launcher's to set"),
        (("-nkvo",), "-nkvo after -- would move memory"),
        (("-sm", "row"), "-sm row after -- divides tensors"),
        (("-c", "many"), "-c many after --"),
        (("--list-devices",), "--list-devices after -- cannot be"),
    ],
)
def test_pull_refuses_the_flags_that_up_refuses(hub: FakeHub, flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        pull(here_with(confirm=lambda _: True), PullRequest(ref=f"{MODEL}:Q8_0", flags=flags))
    assert caught.value.message.startswith(sentence)
    assert hub.seen == []


def test_pull_names_the_flags_that_decide_nothing_for_it(hub: FakeHub) -> None:
    said: list[str] = []

    def watch(step: Step) -> None:
        said.extend([step.text] if step.is_remark else [])

    flags = ("-c", "256", "-ngl", "3", "--jinja", "-ngld", "1", "--override-kv", "a.b=int:1", "-ncmoe", "2")
    pull(here_with(watch), PullRequest(ref=f"{MODEL}:Q8_0", flags=flags))
    assert said == ["-ngl, --jinja: for the server, and without effect on what is pulled"]


def test_a_planned_pull_looks_at_a_companion_once(hub: FakeHub) -> None:
    """The branch may move between two looks."""
    flags = ("-hfd", DRAFT, "-md", "draft-Q8_0.gguf")
    paths = pull(here_with(confirm=lambda _: True), PullRequest(ref=MODEL, flags=flags, vision=False))
    assert [path.name for path in paths] == ["main-Q8_0.gguf", "draft-Q8_0.gguf"]
    assert len([seen for seen in hub.seen if f"api/models/{DRAFT}/revision" in seen.path]) == 1


def test_a_locked_plan_is_started_without_asking_anybody_for_its_companions(
    hub: FakeHub, tmp_path: Path
) -> None:
    planned = plan("-hfd", f"{DRAFT}:Q8_0")
    write_lock(planned, tmp_path / "lock.json")
    lock = read_lock(tmp_path / "lock.json")
    _, [draft] = bring(planned)
    remote = companions_of(lock, sources_of(read_settings()))
    flags = with_files(lock.flags, remote, [draft])
    assert value(flags, "-md") == str(draft)
    argv = lock.compile(
        Engine(path=tmp_path, folder=tmp_path, source=EngineSource.OPTION), KNOWN, flags, SERVING
    )
    assert (value(argv, "-md"), argv.count("--offline"), "-hfd" in argv) == (str(draft), 1, False)


def test_what_is_loaded_beside_the_model_was_used_too(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan("-hfd", f"{DRAFT}:Q8_0")
    [model], [draft] = bring(planned)
    assert planned.plan is not None
    engine = Engine(path=tmp_path / "llama-server", folder=tmp_path, source=EngineSource.OPTION)
    request = UpRequest(plan=planned.request, keep_up=False)
    attempt = Attempt(
        request=request,
        name="m",
        request_hash="0" * 16,
        model_path=model,
        companion_paths=(draft,),
        engine=engine,
        capabilities=None,
        machine=planned.machine,
    )

    def refuse(*_: object, **__: object) -> Deployment:
        raise EngineFailed("it does not start")

    monkeypatch.setattr(start, "bring_up", refuse)
    with pytest.raises(EngineFailed):
        start.start_planned(here_with(), attempt, started_with(planned, [draft]), planned.plan, {})
    used = store_of(read_settings()).used()
    assert set(used) == {str(model.resolve()), str(draft.resolve())}


def test_a_projector_that_is_not_in_its_repo_is_not_answered_with_quants(hub: FakeHub) -> None:
    missing = projector_url(hub).replace("F16", "BF16")
    with pytest.raises(NotFound, match=r"has no mmproj-BF16\.gguf") as caught:
        bring(plan("-mmu", missing))
    assert caught.value.hint == "of such files it has mmproj-F16.gguf: name one by its whole name"
    with pytest.raises(NotFound) as caught:
        bring(plan("-mmu", missing.replace(MODEL, DRAFT)))
    assert caught.value.hint == f"{DRAFT} has none of such files: name one of another repo, or its path"


@pytest.mark.parametrize("kind", ["hub", "url"])
def test_a_file_in_the_way_of_a_companion_is_named_before_the_first_byte(
    hub: FakeHub, files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "mmproj-F16.gguf").write_bytes(b"the user's own")
    with serve_ranges() as server:
        server.files["mmproj-F16.gguf"] = files["mmproj-F16.gguf"].read_bytes()
        url = projector_url(hub) if kind == "hub" else f"{server.url}/mmproj-F16.gguf"
        with pytest.raises(
            UsageError, match=r"mmproj-F16\.gguf is a file that was not put there by launcher"
        ):
            bring(plan("-mmu", url), PullOptions(folder=folder))
    assert [path.name for path in folder.iterdir()] == ["mmproj-F16.gguf"]
    assert (folder / "mmproj-F16.gguf").read_bytes() == b"the user's own"


def test_the_disk_is_asked_for_companions_before_a_local_model_is_copied(
    hub: FakeHub, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_folder, "hard_link", lambda *_: False)  # as on another disk
    model, draft, folder = files["main-Q8_0.gguf"], files["draft-Q8_0.gguf"], tmp_path / "here"

    def copied() -> tuple[Path, ...]:
        options, flags = PullOptions(folder=folder), ("-hfd", f"{DRAFT}:Q8_0")
        return pull(
            here_with(confirm=lambda _: True), PullRequest(ref=str(model), options=options, flags=flags)
        )

    needed = (model.stat().st_size + draft.stat().st_size) * 51 // 50
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1000))
    with pytest.raises(TryAgain, match=r"beside it, draft-Q8_0\.gguf need"):
        copied()
    assert not list(folder.glob("*.gguf*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed + 1000))
    assert [path.name for path in copied()] == [model.name, draft.name]


def test_what_cannot_be_linked_into_a_folder_is_to_come(files: dict[str, Path], tmp_path: Path) -> None:
    """A copy takes room, a link does not."""
    local = open_path(files["mmproj-F16.gguf"])
    sources = sources_of(read_settings())
    assert missing_files(local, sources) == []
    assert missing_files(local, sources, PullOptions(folder=tmp_path / "here")) == []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm and the folder of the tests are one file system")
        [(shard, part)] = missing_files(local, sources, PullOptions(folder=Path(other)))
        assert (shard.name, part.parent) == ("mmproj-F16.gguf", Path(other))
