"""`launcher bundle` with the real engine: made, carried, installed without a network, killed at any moment."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.commands.bundle.archive import ArchiveWriter, read_bundle
from launcher.commands.bundle.manifest import ENGINE, LOCK, SBOM, format_manifest, parse_manifest
from launcher.engine.find import Engine, read_engines
from tests.cli.shell import Prompt
from tests.fakes.hub import FakeHub
from tests.make_gguf import make_gguf

ROOT = Path(__file__).parents[3]
MOMENTS = 20

pytestmark = pytest.mark.engine
pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed (extra `bundle`)")


class Site(Prompt):
    """A user's launcher: its own folders, no network."""

    def __init__(self, home: Path, engine: Engine | None = None) -> None:
        self.home = home
        apart = {"LAUNCHER_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
        super().__init__({**os.environ, **apart}, timeout_s=240)
        self.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path[1:])])
        if engine is not None:
            self.env["LAUNCHER_ENGINE"] = str(engine.path)

    def visible(self) -> list[Path]:
        folder = self.home / "cache/models/bundles"
        return [path for path in folder.glob("*") if not path.name.startswith(".")]


def check_whole(path: Path) -> None:
    bundle = read_bundle(path)
    for file in bundle.manifest.files:
        assert hashlib.sha256(b"".join(bundle.chunks(file.name))).hexdigest() == file.sha256


def check_installed(folder: Path, bundle: Path) -> None:
    for file in read_bundle(bundle).manifest.files:
        if file.name not in {LOCK, ENGINE}:
            path = folder / file.name.removeprefix("model/")
            assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    assert json.loads((folder / "launcher.lock").read_text())["repo"] is None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60 MB in three shards."""
    return make_gguf(tmp_path_factory.mktemp("model") / "m.gguf", "qwen3moe", splits=3)[0]


@pytest.fixture(scope="module")
def made(engine: Engine, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    site = Site(folder / "home", engine)
    answer = site.json("bundle", str(model), str(folder / "m.bundle"), "-c", "512")
    assert answer["size_bytes"] == (folder / "m.bundle").stat().st_size
    return folder / "m.bundle"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "home")
    yield site
    site.type("stop", "--all")


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A bundle of the default model, made at one site and installed at another."""

    file: Path
    made: dict[str, Any]
    site: Site
    installed: dict[str, Any]


@pytest.fixture(scope="module")
def carried(engine: Engine, default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Carried:
    folder = tmp_path_factory.mktemp("carried")
    file, here, there = folder / "b", Site(folder / "here", engine), Site(folder / "there")
    models = here.home / "cache/models"
    models.mkdir(parents=True)
    (models / default_model.parent.name).symlink_to(default_model.parent)
    made = here.json("bundle", "smollm2-135m", str(file), "-c", "512")
    installed = there.json("bundle", "install", str(file), "-y")
    return Carried(file=file, made=made, site=there, installed=installed)


def test_the_default_model_is_carried_and_answers(carried: Carried):
    moved = carried.site
    try:
        words = carried.installed["start"].split()
        assert words[:3] == ["launcher", "up", "--locked"]
        deployment = moved.json(*words[1:])  # up returns when the model has answered a token
        assert Path(deployment["model_path"]).is_relative_to(moved.home)
        assert Path(deployment["engine_path"]).is_relative_to(moved.home)
    finally:
        moved.type("stop", "--all")
    assert carried.made["manifest_sha256"] == read_bundle(carried.file).manifest_sha256
    # its engine is here now: nothing is asked
    assert moved.json("bundle", "install", str(carried.file)) == carried.installed


NO_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def test_it_starts_by_its_name_where_there_is_no_network(carried: Carried, tmp_path: Path):
    """In a network namespace of its own where that may be made."""
    moved = carried.site
    words = (sys.executable, "-m", "launcher", "up", "smollm2-135m", "-c", "256", "--offline", "--json")
    apart = subprocess.run([*NO_NETWORK, "true"], check=False, capture_output=True).returncode == 0
    # ended in the namespace, too: nobody outside reaches it
    both = 'out=$("$@") && echo "$out" && "$1" "$2" "$3" stop --all >&2'
    typed = ("sh", "-c", both, "sh", *words)
    done = subprocess.run(
        [*NO_NETWORK, *typed] if apart else typed,
        env=moved.env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    deployment = json.loads(done.stdout)
    assert Path(deployment["model_path"]).is_relative_to(moved.home / "cache/models/bundles")
    assert Path(deployment["engine_path"]).is_relative_to(moved.home)
    assert "--temp" in deployment["argv"]  # of its profile
    planned = moved.json("plan", "smollm2-135m", "--offline")
    assert planned["model"]["source"] == deployment["model_path"]


def test_a_draft_model_is_carried_too(engine: Engine, tmp_path: Path):
    model, draft = (make_gguf(tmp_path / f"{name}-Q8_0.gguf", "llama")[0] for name in ("main", "draft"))
    file = tmp_path / "b"
    site = Site(tmp_path / "here", engine)
    with FakeHub() as hub:
        hub.publish("user/main-GGUF", {model.name: model})
        hub.publish("user/draft-GGUF", {draft.name: draft})
        site.env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        flags = ("-c", "512", "--json", "--", "-hfd", "user/draft-GGUF")
        code, _, err = site.type("bundle", "user/main-GGUF:Q8_0", str(file), *flags)
        assert code == 0, err
        local = site.type("bundle", "user/main-GGUF:Q8_0", f"{file}2", "-c", "512", "--", "-md", str(draft))
        assert (local[0], "is a file of this machine" in local[2]) == (2, True)
    names = [each.name for each in read_bundle(file).manifest.files if each.name.startswith("model/")]
    assert names == ["model/main-Q8_0.gguf", "model/draft-Q8_0.gguf"]
    shutil.rmtree(tmp_path / "hf")
    moved = Site(tmp_path / "there")
    installed = moved.json("bundle", "install", str(file), "-y")
    try:
        argv = moved.json("up", "--locked", installed["lock"])["argv"]
        for flag in ("-m", "-md"):
            assert Path(argv[argv.index(flag) + 1]).is_relative_to(tmp_path / "there")
    finally:
        moved.type("stop", "--all")


def test_the_bill_of_materials_is_cyclonedx_and_names_every_part(made: Path):
    schema = importlib.import_module("cyclonedx.schema")
    validation = importlib.import_module("cyclonedx.validation.json")
    bundle = read_bundle(made)
    text = bundle.content(SBOM)
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    files = {file.name: file.sha256 for file in bundle.manifest.files}
    named = {part["bom-ref"]: part["hashes"][0]["content"] for part in document["components"]}
    assert named == {name: files[name] for name in files if name == ENGINE or name.startswith("model/")}
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    try:
        assert validator.validate_str(text.decode()) is None
    except ImportError:  # its extra json-validation
        pytest.skip("the schema's validator is not installed (cyclonedx-python-lib[json-validation])")


def test_a_program_is_not_installed_unasked(made: Path, elsewhere: Site):
    code, _, err = elsewhere.type("bundle", "install", str(made))
    assert code == 2
    assert read_bundle(made).manifest.engine.sha256 in err
    assert "-y, if its maker has this sha256" in err
    assert elsewhere.visible() == []
    assert read_engines(elsewhere.home / "cache/engines") == ()


def remade(made: Path, target: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> Path:
    """A bundle with other contents whose manifest agrees with them."""
    bundle = read_bundle(made)
    contents = {name: b"".join(bundle.chunks(name)) for name in bundle.manifest.by_name}
    with tarfile.open(made) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        document = json.loads(member.read())
    change(contents, document)
    with target.open("a+b") as file:
        writer = ArchiveWriter(file, lambda _: None)
        for name, content in contents.items():
            writer.add_bytes(name, content)
        document["files"] = [
            {"name": each.name, "size_bytes": each.size_bytes, "sha256": each.sha256} for each in writer.files
        ]
        document["engine"]["sha256"] = next(e.sha256 for e in writer.files if e.name == ENGINE)
        writer.end(format_manifest(parse_manifest(json.dumps(document).encode())))
    return target


def with_flag(*flags: str) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(contents: dict[str, bytes], _: dict[str, Any]) -> None:
        lock = json.loads(contents[LOCK])
        lock["flags"] = list(flags)
        contents[LOCK] = json.dumps(lock).encode()

    return change


def other_engine(contents: dict[str, bytes], document: dict[str, Any]) -> None:
    lock = json.loads(contents[LOCK])
    lock["engine"]["sha256"] = "f" * 64
    contents[LOCK] = json.dumps(lock).encode()


def other_model(contents: dict[str, bytes], _: dict[str, Any]) -> None:
    name = next(name for name in contents if name.startswith("model/"))
    contents[name] += b"more"


def no_lock(contents: dict[str, bytes], _: dict[str, Any]) -> None:
    contents[LOCK] = b"[1, 2]"


def other_processor(_: dict[str, bytes], document: dict[str, Any]) -> None:
    document["engine"]["isa"] = ["avx1024"]


def no_archive(contents: dict[str, bytes], document: dict[str, Any]) -> None:
    contents[ENGINE] = b"\x1f\x8b no archive"


@pytest.mark.parametrize(
    ("change", "words", "code"),
    [
        (with_flag("--tools", "all"), "--tools", 2),
        (with_flag("--rpc", "10.0.0.1:1"), "--rpc", 2),
        (other_engine, "for other engine than the bundle has", 2),
        (other_model, "for other files than the bundle has", 2),
        (no_lock, "the lock in", 2),
        (other_processor, "avx1024", 5),
        (no_archive, "damaged", 2),
    ],
)
def test_a_bundle_that_lies_is_refused_and_nothing_of_it_is_used(
    made: Path, elsewhere: Site, tmp_path: Path, change: Any, words: str, code: int
):
    lying = remade(made, tmp_path / "lying", change)
    ended, _, err = elsewhere.type("bundle", "install", str(lying), "-y")
    assert words in err
    assert ended == code, err
    assert elsewhere.visible() == []
    assert read_engines(elsewhere.home / "cache/engines") == ()


def test_a_damaged_byte_is_found_and_the_rest_is_kept(made: Path, elsewhere: Site, tmp_path: Path):
    damaged = tmp_path / "b"
    shutil.copy(made, damaged)
    offset = read_bundle(made).offsets["model/m-00002-of-00003.gguf"] + 1000
    with damaged.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    code, _, err = elsewhere.type("bundle", "install", str(damaged), "-y")
    assert (code, "is damaged" in err) == (6, True), err
    assert elsewhere.visible() == []
    elsewhere.json("bundle", "install", str(made), "-y")
    check_installed(elsewhere.visible()[0], made)


def test_what_is_there_is_not_overwritten(made: Path, engine: Engine, model: Path, tmp_path: Path):
    code, _, err = Site(tmp_path, engine).type("bundle", str(model), str(made))
    assert (code, "is there already" in err) == (2, True)


def killed_when(site: Site, ready: Callable[[], bool], *words: str) -> bool:
    """Kill the command with all its children once `ready`; False if it was done before."""
    process = site.start(*words, start_new_session=True)
    while process.poll() is None:
        if ready():
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.0005)
    process.communicate()
    return False


def size_of(*files: Path) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


@pytest.mark.timeout(900)
def test_a_kill_at_any_moment_of_writing_leaves_nothing_half(
    engine: Engine, model: Path, made: Path, tmp_path: Path
):
    site, file = Site(tmp_path / "home", engine), tmp_path / "m.bundle"
    words = ("bundle", str(model), str(file), "-c", "512")
    partial, packed = file.with_name("m.bundle.part"), file.with_name("m.bundle.part.engine")
    models = read_bundle(made).offsets[ENGINE]
    moments: list[Callable[[], bool]] = [
        lambda least=models * step // 14: size_of(partial) >= max(least, 1)  # type: ignore[misc]
        for step in range(14)
    ]
    moments += [packed.exists, lambda: size_of(packed) > 1 << 20, lambda: size_of(packed) > 4 << 20]
    moments += [lambda: size_of(partial) > models, lambda: size_of(partial) > models + 5000, file.exists]
    assert len(moments) == MOMENTS
    killed = 0
    for ready in moments:
        killed += killed_when(site, ready, *words)
        if file.exists():
            check_whole(file)
            file.unlink()
    assert killed >= MOMENTS // 2
    site.json(*words)
    check_whole(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "m.bundle"]


@pytest.mark.timeout(900)
def test_a_kill_at_any_moment_of_installing_leaves_nothing_half(made: Path, elsewhere: Site):
    words = ("bundle", "install", str(made), "-y")
    engines, bundles = elsewhere.home / "cache/engines", elsewhere.home / "cache/models/bundles"
    bundle = read_bundle(made)
    stage = bundles / f".install-{bundle.manifest.name}-{bundle.manifest_sha256[:8]}"
    names = [file.name.removeprefix("model/") for file in bundle.manifest.files]
    total = sum(file.size_bytes for file in bundle.manifest.files if file.name.startswith("model/"))
    shards = [stage / name for name in names if name.endswith(".gguf")]
    moments: list[Callable[[], bool]] = [
        lambda least=total * step // 12: size_of(*shards) >= max(least, 1)  # type: ignore[misc]
        for step in range(12)
    ]
    moments += [stage.exists, (stage / "launcher.lock").exists, (stage / ENGINE).exists]
    moments += [(stage / SBOM).exists, lambda: any(engines.glob(".install-*"))]
    moments += [
        lambda: any(engines.glob(".install-*/unpacked/engine/llama-server")),
        lambda: read_engines(engines) != (),
        lambda: elsewhere.visible() != [],
    ]
    assert len(moments) == MOMENTS
    killed = 0
    for ready in moments:
        killed += killed_when(elsewhere, ready, *words)
        for folder in elsewhere.visible():
            check_installed(folder, made)
            assert read_engines(engines)  # a folder that is there has its engine
        for each in read_engines(engines):
            subprocess.run([each.path, "--version"], check=True, capture_output=True)
        for path in (*elsewhere.visible(), *(each.folder for each in read_engines(engines))):
            shutil.rmtree(path)
    assert killed >= MOMENTS // 2
    elsewhere.json(*words)
    [folder] = elsewhere.visible()
    check_installed(folder, made)
    left = [path.name for path in folder.parent.iterdir() if path.name.startswith(".")]
    assert left == [".locks"]
