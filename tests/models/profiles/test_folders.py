"""The profiles we ship: all of them parse, say where their numbers are from, and are inside the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.profile import SizeBasis, pick_profile
from launcher.system.settings import profiles_dir
from launcher.units import GIB

SHIPPED = profiles_dir() / "models"
ROOT = Path(__file__).parents[3]


def test_all_shipped_profiles_parse():
    profiles = read_model_profiles([SHIPPED])
    assert profiles.broken == ()
    names = [profile.name for profile in profiles.usable]
    assert names == sorted(path.stem for path in SHIPPED.glob("*.toml"))
    families = (
        "qwen3-",
        "qwen3.5-",
        "qwen3.6-",
        "gpt-oss-",
        "gemma-3-",
        "gemma-4-",
        "glm-",
        "deepseek-",
        "minimax-",
    )
    families += ("kimi-k2", "llama-", "mistral-", "qwen3-embedding-", "bge-reranker-")
    assert all(any(name.startswith(family) for name in names) for family in families)


@pytest.mark.parametrize("profile", read_model_profiles([SHIPPED]).usable, ids=lambda profile: profile.name)
def test_quants_are_best_first(profile):
    """Where sizes are exact and of one repo, fewer bytes are never listed as better."""
    for repo in {quant.repo for quant in profile.quants}:
        sizes = [quant.size_bytes for quant in profile.quants if quant.repo == repo and quant.size_bytes]
        assert sizes == sorted(sizes, reverse=True)


def test_kimi_is_as_its_sources_say():
    kimi = pick_profile(read_model_profiles([SHIPPED]), "kimi-k2.5")
    rows = [(quant.name, quant.repo, quant.label, quant.n_shards) for quant in kimi.quants]
    assert rows == [
        ("INT4", "AesSedai/Kimi-K2.5-GGUF", "Q4_X", 14),
        ("Q4_K_XL", "unsloth/Kimi-K2.5-GGUF", "UD-Q4_K_XL", 13),
        ("Q2_K_XL", "unsloth/Kimi-K2.5-GGUF", "UD-Q2_K_XL", 8),
        ("TQ1_0", "unsloth/Kimi-K2.5-GGUF", "UD-TQ1_0", 5),
    ]
    int4, q4, q2, tq1 = kimi.quants
    assert pytest.approx(543.617 * GIB, rel=1e-5) == int4.size_bytes
    assert pytest.approx(579.28 * GIB, rel=1e-5) == q4.size_bytes
    assert (q2.size_bytes, q2.size_basis) == (374_764_330_144, SizeBasis.EXACT)
    assert (tq1.size_bytes, tq1.size_basis) == (240_000_000_000, SizeBasis.PUBLISHED)
    assert (kimi.context.max, kimi.context.default) == (262_144, 98_304)
    assert kimi.api is not None
    assert (
        kimi.api.input_usd_per_mtok,
        kimi.api.cached_input_usd_per_mtok,
        kimi.api.output_usd_per_mtok,
    ) == (0.60, 0.10, 3.00)


def test_the_default_model_needs_no_hub():
    (quant,) = pick_profile(read_model_profiles([SHIPPED]), "smollm2-135m").quants
    assert quant.wheel is not None
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" == quant.file == quant.wheel.member.rsplit("/", maxsplit=1)[-1]
    assert quant.size_bytes == 98_362_432


def test_the_users_profile_wins_and_a_broken_one_is_named(tmp_path):
    text = (SHIPPED / "qwen3-0.6b.toml").read_text()
    (tmp_path / "qwen3-0.6b.toml").write_text(text.replace('title = "Qwen3 0.6B"', 'title = "Mine"'))
    (tmp_path / "kimi-k2.5.toml").write_text("title = ")
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    (tmp_path / "notes.txt").write_text("not a profile")
    profiles = read_model_profiles([SHIPPED, tmp_path])
    assert pick_profile(profiles, "qwen3-0.6b").title == "Mine"
    assert pick_profile(profiles, "gpt-oss-20b").title == "gpt-oss 20B"
    assert [broken.name for broken in profiles.broken] == ["kimi-k2.5", "latin"]
    assert {"qwen3-0.6b", "kimi-k2.5", "latin"} < set(profiles.names)
    with pytest.raises(UsageError, match=r"kimi-k2\.5\.toml is not TOML"):
        pick_profile(profiles, "kimi-k2.5")


def test_a_folder_that_is_not_there_has_no_profiles(tmp_path):
    assert read_model_profiles([tmp_path / "none"]).usable == ()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's wheel, built as a user's pip would; that needs hatchling from the package index."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    out = tmp_path_factory.mktemp("wheel")
    reach = subprocess.run(
        [*pip, "download", "--quiet", "--no-deps", "--dest", str(out / "backend"), "hatchling"],
        capture_output=True,
        text=True,
        check=False,
    )
    if reach.returncode != 0:
        pytest.skip(
            "the package index that pip is configured with gives no hatchling, so no wheel can be built"
        )
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_carries_every_profile(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("launcher/_profiles/")}
        archive.extractall(tmp_path)
    here = {
        f"launcher/_profiles/{path.relative_to(ROOT / 'profiles')}"
        for path in ROOT.glob("profiles/**/*.toml")
    }
    assert here <= inside
    program = (
        "from launcher.system.settings import profiles_dir; from launcher.models.profiles.folders import read_model_profiles as r;"
        "print(profiles_dir(), len(r([profiles_dir() / 'models']).usable))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{tmp_path / 'launcher' / '_profiles'} {len(list(SHIPPED.glob('*.toml')))}" == ran.stdout.strip()
