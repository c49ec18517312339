"""Taking the tree out of an archive, and the patch for old Vulkan headers on the text it was made for."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from launcher.engine.compile.source import (
    BACKENDS_FILE,
    CPU_PATCHES,
    VULKAN_FILE,
    copy_tree,
    keep_backends_private,
    patch_cpu,
    patch_vulkan,
    tree_digest,
    unpack,
    without_layer_settings,
)
from launcher.errors import EngineFailed

EXCERPT = Path(__file__).parents[2] / "captures" / "engine" / "ggml-vulkan-0c1e570-excerpt.cpp"


def archive(path: Path, members: list[tarfile.TarInfo], content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_only_the_subtree_is_taken_with_its_links(tmp_path: Path) -> None:
    names = [
        member("p-1/setup.py"),
        member("p-1/vendor/l/a/b.c"),
        member("p-1/vendor/l/soft", tarfile.SYMTYPE, "a/b.c"),
        member("p-1/vendor/l/hard", tarfile.LNKTYPE, "p-1/vendor/l/a/b.c"),
    ]
    target = tmp_path / "out"
    unpack(archive(tmp_path / "x.tar.gz", names), "p-1/vendor/l", target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "a",
        "a/b.c",
        "hard",
        "soft",
    ]
    assert (target / "hard").read_bytes() == (target / "soft").read_bytes() == b"x"


@pytest.mark.parametrize(
    "bad",
    [
        member("p/../../evil"),
        member("p/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("p/link", tarfile.SYMTYPE, "../../evil"),
        member("p/device", tarfile.CHRTYPE),
    ],
)
def test_nothing_may_point_outside(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(EngineFailed, match="cannot be unpacked"):
        unpack(archive(tmp_path / "x.tar.gz", [bad]), "p", tmp_path / "out")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_damaged_archive(tmp_path: Path, cut: int) -> None:
    path = archive(tmp_path / "x.tar.gz", [member(f"p/{n}") for n in range(200)], bytes(range(256)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(EngineFailed, match="cannot be unpacked"):
        unpack(path, "p", tmp_path / "out")


def test_the_patch_leaves_out_the_block_and_nothing_else() -> None:
    text = EXCERPT.read_text()
    patched = without_layer_settings(text)
    assert "vk::LayerSettingEXT" in text
    assert "vk::LayerSetting" not in patched
    assert "layer_setting_info" not in patched
    assert "instance_create_info(vk::InstanceCreateFlags{}, &app_info, layers, extensions);" in patched
    gone = [line for line in text.splitlines() if line not in patched.splitlines()]
    assert gone[0] == "    VkBool32 enable_best_practice = layer_settings;"
    assert gone[-1].endswith("&app_info, layers, extensions, &layer_setting_info);")
    assert len(text.splitlines()) - len(patched.splitlines()) == 11


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: "",
        lambda text: text.replace("enable_best_practice = layer_settings", "best = layer_settings"),
        lambda text: text.replace("&layer_setting_info);", "&settings_info);"),
        lambda text: text.replace("vk::InstanceCreateInfo instance", "vk::InstanceCreateInfo an_instance"),
    ],
)
def test_another_text_is_not_patched(broken: object) -> None:
    assert callable(broken)
    with pytest.raises(EngineFailed, match="is not the text the patch"):
        without_layer_settings(broken(EXCERPT.read_text()))


@pytest.mark.parametrize(
    ("headers", "patched"),
    [((1, 3, 239), True), ((1, 3, 271), True), ((1, 3, 272), False), ((1, 4, 300), False), (None, False)],
)
def test_only_old_headers_need_the_patch(
    tmp_path: Path, headers: tuple[int, int, int] | None, *, patched: bool
) -> None:
    path = tmp_path / VULKAN_FILE
    path.parent.mkdir(parents=True)
    path.write_text(EXCERPT.read_text())
    assert patch_vulkan(tmp_path, headers) is patched
    assert (path.read_text() != EXCERPT.read_text()) is patched


def test_backends_are_defined_for_ggml_alone(tmp_path: Path) -> None:
    keep_backends_private(tmp_path)  # a fork without the file
    path = tmp_path / BACKENDS_FILE
    path.parent.mkdir(parents=True)
    others = "target_compile_definitions(ggml PUBLIC GGML_BACKEND_DIR)\n"
    path.write_text(others + "    target_compile_definitions(ggml PUBLIC ${backend_use})\n")
    keep_backends_private(tmp_path)
    assert path.read_text() == others + "    target_compile_definitions(ggml PRIVATE ${backend_use})\n"


def test_a_tree_without_the_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"ggml-vulkan\.cpp is not the text"):
        patch_vulkan(tmp_path, (1, 3, 239))


def test_of_a_tree_only_what_builds_left_at_its_top_is_not_copied(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    kept = ("CMakeLists.txt", "build.zig", "cmake/build-info.cmake", "docs/build.md", "scripts/build/x.sh")
    left = (".git/HEAD", "build/CMakeCache.txt", "build-cuda/x.o", "ggml/.git/HEAD")
    for name in (*kept, *left):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    copy_tree(tree, tmp_path / "copy")
    copied = {
        str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    assert copied == set(kept)
    before = tree_digest(tree)
    (tree / "build/CMakeCache.txt").write_text("another")
    assert tree_digest(tree) == before
    (tree / "cmake/build-info.cmake").write_text("other")
    assert tree_digest(tree) != before


def test_the_processor_s_code_is_patched_and_nothing_else(tmp_path: Path) -> None:
    for name, text, _ in CPU_PATCHES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"before\n{text}\nafter\n")
    patch_cpu(tmp_path)
    for name, _, instead in CPU_PATCHES:
        assert (tmp_path / name).read_text() == f"before\n{instead}\nafter\n"


def test_a_tree_without_that_code_stays_as_it_is(tmp_path: Path) -> None:
    patch_cpu(tmp_path)
    assert list(tmp_path.iterdir()) == []
