"""Unpack and patch the llama.cpp tree of one build."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import tarfile
from functools import partial
from pathlib import Path

from launcher.errors import EngineFailed, UsageError

_MOST_FILES = 100_000  # llama.cpp has 3,000
VULKAN_FILE = "ggml/src/ggml-vulkan/ggml-vulkan.cpp"
BACKENDS_FILE = "ggml/src/CMakeLists.txt"
_BACKEND_FOR_ALL = "target_compile_definitions(ggml PUBLIC ${backend_use})"
_BACKEND_FOR_GGML = _BACKEND_FOR_ALL.replace("PUBLIC", "PRIVATE")

# What is patched for the processor: file, text, and what stands in its place.
CPU_PATCHES = (
    # Attention takes so many values at a time, the rest one by one: with heads of 64 that was all of them,
    # 14 million cached tokens/s of a core instead of 65.
    (
        "ggml/src/ggml-cpu/simd-mappings.h",
        "#if defined(__AVX512FP16__)\n\n#define GGML_F16_STEP 128",
        "#if defined(__AVX512FP16__)\n\n#define GGML_F16_STEP 64",
    ),
)
# VK_EXT_layer_settings came with Vulkan 1.3.272 (Khronos registry, VK_EXT_layer_settings revision 2).
_LAYER_SETTINGS_SINCE = (1, 3, 272)

_BLOCK_START = "    VkBool32 enable_best_practice = layer_settings;\n"
_BLOCK_END = "    vk::InstanceCreateInfo instance_create_info("
_ARGUMENT = "layers, extensions, &layer_setting_info);"


def unpack(archive: Path, subtree: str, target: Path) -> None:
    """Extract the folder `subtree` of a .tar.gz as the new folder `target`; nothing may leave it.

    Raises EngineFailed if the archive is damaged or has no such folder, OSError for the disk's troubles.
    """
    prefix = subtree.rstrip("/") + "/"
    n_files = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if not member.name.startswith(prefix) or member.isdir():
                    continue
                # Times are kept: ccache trusts a header that is older than the compilation.
                _extract(tar, _renamed(member, prefix), target)
                n_files += 1
    except (tarfile.TarError, EOFError) as error:
        raise EngineFailed(
            f"{archive.name} cannot be unpacked: {error}", hint=f"rm {archive}, then launcher engine build"
        ) from error
    if n_files == 0:
        raise EngineFailed(f"{archive.name} has no folder {subtree}", hint=f"rm {archive}")


def _renamed(member: tarfile.TarInfo, prefix: str) -> tarfile.TarInfo:
    renamed = copy.copy(member)  # TarInfo.replace came with Python 3.11.4, and Debian 12 has 3.11.2
    renamed.name = member.name.removeprefix(prefix)
    if member.islnk():
        renamed.linkname = member.linkname.removeprefix(prefix)
    return renamed


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extract(member, target, filter="data")
        return
    # Python before 3.11.4 has no filter: check the path and where a link points by hand.
    points_to = (
        os.path.normpath(Path(member.name).parent / member.linkname) if member.issym() else member.linkname
    )
    inside = all(
        not Path(path).is_absolute() and ".." not in Path(path).parts for path in (member.name, points_to)
    )
    if not inside or not (member.isreg() or member.issym() or member.islnk()):
        raise tarfile.ExtractError(f"{member.name} would leave the folder or is no file")
    tar.extract(member, target)


def tree_digest(folder: Path) -> str:
    """Return a digest of a tree by the names, sizes and times of its files. Raises UsageError.

    What git and earlier builds keep in it does not count.
    """
    if not (folder / "CMakeLists.txt").is_file():
        raise UsageError(f"{folder} has no CMakeLists.txt", hint="name the folder of a llama.cpp tree")
    digest = hashlib.sha256()
    n_files = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _ignored(folder, where, folders))
        for name in sorted(names):
            path = Path(where, name)
            about = path.lstat()
            digest.update(os.fsencode(f"{path.relative_to(folder)} {about.st_size} {about.st_mtime_ns}\n"))
        n_files += len(names)
        if n_files > _MOST_FILES:
            raise UsageError(
                f"{folder} has more than {_MOST_FILES} files", hint="name the folder of a llama.cpp tree"
            )
    return digest.hexdigest()


def copy_tree(folder: Path, target: Path) -> None:
    """Copy a tree of the user's, which is not built in: it stays as it is. Raises OSError."""
    shutil.copytree(folder, target, symlinks=True, ignore=partial(_ignored, folder))


def _ignored(tree: Path, where: str, names: list[str]) -> set[str]:
    """Return what git keeps in a tree, and the folders at its top that earlier builds left."""
    # below the top, cmake/build-info.cmake and the like belong to the sources
    at_top = Path(where) == tree
    builds = {name for name in names if at_top and name.startswith("build") and Path(where, name).is_dir()}
    return builds | {".git"}.intersection(names)


def patch_vulkan(tree: Path, headers: tuple[int, int, int] | None) -> bool:
    """Fit the tree to Vulkan headers older than 1.3.272 (Debian 12: 1.3.239); True if needed."""
    if headers is None or headers >= _LAYER_SETTINGS_SINCE:
        return False
    path = tree / VULKAN_FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        text = ""
    path.write_text(without_layer_settings(text))
    return True


def patch_cpu(tree: Path) -> None:
    """Mend what ends or slows down newer processors; where the text is another, it is compiled as it is."""
    for name, text, instead in CPU_PATCHES:
        path = tree / name
        if path.is_file():
            path.write_text(path.read_text().replace(text, instead))


def keep_backends_private(tree: Path) -> None:
    """Have only ggml's table of backends compiled anew when others are built into the same tree."""
    # ggml_add_backend defines GGML_USE_VULKAN and the like for all that links ggml, and only
    # ggml-backend-reg.cpp asks for it.
    path = tree / BACKENDS_FILE
    if path.is_file():  # where the text is another, more is compiled twice
        path.write_text(path.read_text().replace(_BACKEND_FOR_ALL, _BACKEND_FOR_GGML))


def without_layer_settings(text: str) -> str:
    """Return ggml-vulkan.cpp without the vk::LayerSettingEXT block of ggml_vk_instance_init.

    Raises EngineFailed if the text does not match.
    """
    # The block turns on a check of the validation layers, which only a debug build has.
    start = text.find(_BLOCK_START)
    end = text.find(_BLOCK_END, start)
    argument = text.find(_ARGUMENT, end)
    if min(start, end, argument) < 0 or "\n" in text[end:argument]:
        raise EngineFailed(
            f"{VULKAN_FILE} is not the text the patch for Vulkan headers before 1.3.272 was made for",
            hint="install newer Vulkan headers, or launcher engine build --backend cpu",
        )
    rest = text[end:].replace(_ARGUMENT, "layers, extensions);", 1)
    return text[:start] + rest
