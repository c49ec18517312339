"""Profiles are read strictly: what is not understood is refused, by file, key, value and limit."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.models.profiles.from_toml import find_profiles, parse_model_profile, profile_name
from launcher.models.profiles.profile import SizeBasis
from launcher.system.settings import profiles_dir

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "0" * 64
GOOD = f"""
schema = 1
title = "T"
description = "D"
license = "MIT"
homepage = "https://example.org"
[context]
max = 4096
default = 2048
source = "S"
[[quants]]
name = "Q8_0"
aliases = ["BEST"]
repo = "user/repo"
revision = "{COMMIT}"
label = "Q8_0"
n_shards = 1
size_bytes = 1000
size_basis = "exact"
size_source = "S"
sha256 = "{DIGEST}"
quality = "Q"
quality_source = "S"
[quants.wheel]
package = "p"
version = "1"
wheel_sha256 = "{DIGEST}"
member = "p/x.gguf"
[[quants]]
name = "Q4_0"
repo = "user/repo"
label = "Q4_0"
quality = "Q"
quality_source = "S"
[[modes]]
name = "chat"
source = "S"
[modes.sampling]
temperature = 1
[api]
provider = "P"
base_url = "https://example.org/v1"
model_id = "m"
input_usd_per_mtok = 1
output_usd_per_mtok = 2.5
source = "S"
as_of = 2026-11-01
"""


def test_everything_is_read():
    profile = parse_model_profile(GOOD, "t")
    best, other = profile.quants
    assert (
        profile.name,
        profile.title,
        profile.context.max,
        profile.context.default,
    ) == ("t", "T", 4096, 2048)
    assert (
        best.size_bytes,
        best.size_basis,
        best.revision,
        best.aliases,
    ) == (1000, SizeBasis.EXACT, COMMIT, ("BEST",))
    assert best.wheel is not None
    assert (
        best.wheel.package,
        best.wheel.version,
        best.wheel.member,
        best.wheel.size_bytes,
        best.wheel.sha256,
    ) == ("p", "1", "p/x.gguf", 1000, DIGEST)
    assert (other.size_bytes, other.size_basis, other.n_shards, other.wheel) == (None, None, None, None)
    assert (profile.modes[0].sampling.temperature, profile.modes[0].sampling.top_k) == (1.0, None)
    assert profile.api is not None
    assert (
        profile.api.output_usd_per_mtok,
        profile.api.cached_input_usd_per_mtok,
        profile.api.as_of,
    ) == (2.5, None, "2026-11-01")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema = 1", "schema = 7", "schema is 7, and this launcher reads up to 6"),
        ("schema = 1", 'schema = 4\nengine = "ik"', "engine is not a known key"),
        ("schema = 1", 'schema = 5\nvllm = { repo = "a/b" }', "vllm is not a known key"),
        (
            "schema = 1",
            'schema = 6\nvllm = { repo = "../a" }',
            "vllm.quality is missing",
        ),
        ("schema = 1", 'schema = 5\nengine = "../ik"', "engine is '../ik', not written like ik_llama.cpp"),
        ("schema = 1", 'schema = 2\nflags = ["-ub"]', "flags is not a known key"),
        ("schema = 1", 'schema = 3\nflags = ["-ub", 1]', "flags is ['-ub', 1], not a list of strings"),
        ("schema = 1", "", "schema is missing"),
        ('title = "T"', 'title = " "', "title is ' ', not a string that is not empty"),
        ('title = "T"', 'title = "T"\ncolour = "red"', "colour is not a known key"),
        ("max = 4096", "max = 4096\nmin = 1", "context.min is not a known key"),
        ("max = 4096", "max = 12", "context.max is 12, not a whole number from 256 to 134217728"),
        ("default = 2048", "default = 8192", "context.default is 8192, not a whole number from 256 to 4096"),
        ("max = 4096", "max = true", "context.max is True, not a whole number from 256 to 134217728"),
        ("n_shards = 1", "n_shards = 0", "quants[1].n_shards is 0, not a whole number from 1 to 99999"),
        ("n_shards = 1", "n_shards = 2", "quants[1].sha256 is one file's, and n_shards is 2, not 1"),
        ('size_basis = "exact"', 'size_basis = "guess"', "quants[1].size_basis is 'guess', not written like"),
        ('size_source = "S"', "", "quants[1].size_source is missing"),
        (f'revision = "{COMMIT}"', "", "quants[1].revision is missing: an exact size"),
        (f'revision = "{COMMIT}"', 'revision = "main"', "quants[1].revision is 'main', not written like"),
        ('aliases = ["BEST"]', 'aliases = "BEST"', "quants[1].aliases is 'BEST', not a list of strings"),
        ('aliases = ["BEST"]', 'aliases = ["q4_0"]', "quants uses the name 'Q4_0' for both Q8_0 and Q4_0"),
        ('package = "p"', 'package = "p"\nindex = "i"', "quants[1].wheel.index is not a known key"),
        (f'sha256 = "{DIGEST}"\nquality', "quality", "quants[1].wheel needs the quant's own size_bytes"),
        (
            'repo = "user/repo"\nlabel = "Q4_0"',
            'repo = "repo"\nlabel = "Q4_0"',
            "quants[2].repo is 'repo', not",
        ),
        (
            "temperature = 1",
            "temperature = 3",
            "modes[1].sampling.temperature is 3, not a number from 0 to 2",
        ),
        ("temperature = 1", "temperature = nan", "modes[1].sampling.temperature is nan, not a number from 0"),
        ("temperature = 1", "temp = 1", "modes[1].sampling.temp is not a known key"),
        (
            "temperature = 1",
            "top_k = 1.5",
            "modes[1].sampling.top_k is 1.5, not a whole number from 0 to 100000",
        ),
        (
            "[modes.sampling]",
            "chat_template_kwargs = { a = [1] }\n[modes.sampling]",
            "modes[1].chat_template_kwargs.a is [1], not a string, a finite number, true or false",
        ),
        ("as_of = 2026-11-01", 'as_of = "2026-11-01"', "api.as_of is '2026-11-01', not a date like"),
        ("as_of = 2026-11-01", "as_of = 2026-11-01T00:00:00", "api.as_of is datetime.datetime(2026, 11, 1"),
        ("input_usd_per_mtok = 1", "input_usd_per_mtok = -1", "api.input_usd_per_mtok is -1, not a number"),
        ("[[modes]]", "[modes]", "modes is {'name': 'chat', 'source': 'S', 'sampling': {'temperature"),
        ("[api]", "[[modes]]\nname = 'chat'\nsource = 'S'\n[api]", "modes has one name twice: chat, chat"),
        (
            'title = "T"',
            'title = "T"\ndefault_quant = "Q2_K"',
            "default_quant is 'Q2_K', which is none of its",
        ),
        ("schema = 1", "schema = ", "is not TOML: Invalid value (at line 2, column 10)"),
    ],
)
def test_what_is_wrong_is_named(old, new, problem):
    assert old in GOOD
    with pytest.raises(UsageError) as caught:
        parse_model_profile(GOOD.replace(old, new, 1), "t", file="some/t.toml")
    message = str(caught.value)
    assert message.startswith("some/t.toml")
    assert problem in message
    assert "\n" not in message
    assert caught.value.hint


def test_a_table_that_is_missing_is_named():
    with pytest.raises(UsageError, match=r"^t\.toml: context is missing$"):
        parse_model_profile(GOOD.replace("[context]", "[other]"), "t")


def test_a_list_with_no_quants_is_refused():
    with pytest.raises(UsageError, match=r"^t\.toml: quants is \[\], not one or more tables"):
        parse_model_profile(
            'schema = 1\ntitle = "T"\ndescription = "D"\nlicense = "L"\nhomepage = "http://x"\n'
            'quants = []\n[context]\nmax = 512\ndefault = 512\nsource = "S"\n',
            "t",
        )


def test_names_are_what_a_reference_can_hold():
    with pytest.raises(UsageError, match="the name 'My Model' is not small letters"):
        parse_model_profile(GOOD, "My Model")


def test_deep_nesting_is_an_error_and_not_a_crash():
    with pytest.raises(UsageError, match="is not TOML"):
        parse_model_profile("a = " + "[" * 50_000, "t")


@given(
    text=st.sampled_from([file.read_text() for file in sorted((profiles_dir() / "models").glob("*.toml"))]),
    where=st.floats(0, 1),
    length=st.integers(0, 40),
    inserted=st.text(max_size=20)
    | st.sampled_from(["=", "[", "]]", "nan", "-1", "1e999", "\n", "'''", "9" * 400]),
)
@example(text=GOOD, where=0.0, length=0, inserted="a = 0x" + "f" * 5000 + "\n")
def test_damaged_text_is_read_or_refused(text, where, length, inserted):
    at = int(where * len(text))
    damaged = text[:at] + inserted + text[at + length :]
    profiles = find_profiles({"t.toml": damaged})
    assert [broken.error.message[:6] for broken in profiles.broken] == ["t.toml"] * (1 - len(profiles.usable))


def test_a_broken_profile_leaves_the_others_alone():
    profiles = find_profiles({"a/good.toml": GOOD, "a/bad.toml": "schema = 1", "a/good2.toml": GOOD})
    assert [profile.name for profile in profiles.usable] == ["good", "good2"]
    assert [(broken.name, broken.file) for broken in profiles.broken] == [("bad", "a/bad.toml")]


def test_a_later_file_wins_also_when_it_is_broken():
    mine = GOOD.replace('title = "T"', 'title = "Mine"')
    won = find_profiles({"shipped/x.toml": GOOD, "own/x.toml": mine})
    assert [profile.title for profile in won.usable] == ["Mine"]
    lost = find_profiles({"shipped/x.toml": GOOD, "own/x.toml": "!"})
    assert (lost.usable, [broken.file for broken in lost.broken]) == ((), ["own/x.toml"])
    mended = find_profiles({"shipped/x.toml": "!", "own/x.toml": mine})
    assert ([profile.title for profile in mended.usable], mended.broken) == (["Mine"], ())


def test_a_profile_is_called_as_its_file():
    assert (
        "kimi-k2.5" == profile_name("profiles/models/kimi-k2.5.toml") == profile_name(r"C:\p\kimi-k2.5.toml")
    )


SHAPED = GOOD.replace("schema = 1", "schema = 4").replace(
    "[context]",
    """[shape]
architecture = "qwen3"
source = "S"
[shape.dimensions]
blocks = 2
[context]""",
    1,
)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('architecture = "qwen3"', 'architecture = "mamba9"', "shape.architecture is 'mamba9'"),
        (
            "[context]",
            '[[scores]]\nbenchmark = "B"\npurpose = "chat"\nvalue = 101\nsource = "S"\n[context]',
            "101",
        ),
        (
            "[context]",
            '[[scores]]\nbenchmark = "B"\npurpose = "chess"\nvalue = 1\nsource = "S"\n[context]',
            "chess",
        ),
        (
            "schema = 4",
            'schema = 4\npurposes = ["chess"]',
            "purposes has 'chess', which is none of chat, coding",
        ),
        (
            "[context]",
            '[projector]\nrepo = "x"\nfile = "f"\nsource = "S"\n[context]',
            "projector.repo is 'x'",
        ),
    ],
)
def test_what_is_wrong_with_the_newest_keys_is_named(old, new, problem):
    assert old in SHAPED
    with pytest.raises(UsageError) as caught:
        parse_model_profile(SHAPED.replace(old, new, 1), "t")
    assert problem in caught.value.message


def test_an_older_schema_has_no_newer_keys():
    with pytest.raises(UsageError, match="purposes"):
        parse_model_profile(GOOD.replace("schema = 1", 'schema = 3\npurposes = ["chat"]', 1), "t")
