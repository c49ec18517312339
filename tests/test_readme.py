"""The README against what it describes: commands, options, exit codes, variables, files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.core
import typer.main

from launcher import errors
from launcher.cli.help_topics import topics
from launcher.cli.main import app
from tests.cli.shell import launcher

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = README.split("### Commands", 1)[1].split("\n## ", 1)[0]

OTHER_OPTIONS = frozenset(
    [
        "--help",
        "--version",
        "--list-devices",
        "--backend",
        "--build",
        "-k",
        "--mmproj",
        "-md",
        "--lora",
        "-ub",
        "-ot",
        "-cmoe",
        "-ncmoe",
        "-ngl",
        "-ts",
        "-fit",
        "--cors-origins",
    ]
)
"""Options in the README that are typer's own, llama-server's, or those of scripts."""


def commands() -> dict[str, typer.core.TyperCommand]:
    """Every command of the CLI by what is typed: `engine build`."""
    return dict(_walk(typer.main.get_command(app), ""))


def _walk(command: object, path: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    if isinstance(command, typer.core.TyperGroup):
        for name, child in command.commands.items():
            yield from _walk(child, f"{path} {name}".strip())
    elif not command.hidden:  # typed by launchers of other machines
        assert isinstance(command, typer.core.TyperCommand)
        yield path, command


def test_every_command_is_in_the_table_and_every_row_is_a_command():
    rows = re.findall(r"^\| `launcher ([a-z]+(?: [a-z]+)*)([^|]*)\|(.*)", COMMANDS, re.MULTILINE)
    named = [
        f"{name}{member}"
        for name, rest, words in rows
        # a group of commands has one row, which names each of them
        for member in (
            [f" {word}" for word in re.findall(r"`([a-z]+)`", words)] if rest.strip(" `") == "…" else [""]
        )
    ]
    assert sorted(named) == sorted(commands())


def test_every_command_and_option_has_help():
    for path, command in commands().items():
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"


def test_every_option_in_the_text_exists():
    known = {
        name
        for command in commands().values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    written = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*(?![\w*.])", "\n".join(_code_spans())))
    assert sorted(written - known - OTHER_OPTIONS) == []


def _code_spans() -> list[str]:
    """`code` in the text and lines that begin with `$ launcher`."""
    shell = [line for line in README.splitlines() if line.startswith("$ launcher")]
    return re.findall(r"`([^`\n]+)`", README.replace("```", "").split("## File map")[0]) + shell


def test_exit_codes_are_the_error_tree():
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]*)\|$", README, re.MULTILINE)
    documented = {code: int(number) for number, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert documented == {kind.code: kind.exit_code for kind in _kinds(errors.LauncherError)}


def _kinds(kind: type[errors.LauncherError]) -> list[type[errors.LauncherError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _kinds(child))]


def test_the_settings_variables_are_documented():
    settings = (ROOT / "launcher" / "system" / "settings.py").read_text(encoding="utf-8")
    documented = settings.split('"""')[1]
    variables = set(re.findall(r"\b(?:LAUNCHER|HF|XDG)_[A-Z_]+\b", documented))
    assert variables == {name for name in variables if f"`{name}`" in README}


def test_every_folder_is_in_the_file_map_and_every_file_in_its_folder_s_docstring():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/filemap", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_front_page_is_read_in_two_minutes_and_the_rest_in_five():
    front, reference = README.split("\n## Reference\n")
    assert len(front.encode()) <= 6_000
    assert len(reference.encode()) <= 12_000


def test_a_machine_that_people_have_comes_before_rigs_that_they_dream_of():
    assert README.index("--gpu 3090 --ram 64G") < README.index("kimi-k2.5 --compare")


def test_pictures_are_there_and_small():
    files = [ROOT / file for file in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)]
    assert files
    assert all(0 < file.stat().st_size <= 20_000 for file in files)


@pytest.mark.engine
def test_the_printed_comparison_is_what_the_command_prints(engine):
    block = re.search(
        r"^\$ launcher (plan kimi-k2.5 [^$]*?\S)\n((?: \S| ─|\n|\w).*?)```", README, re.MULTILINE | re.DOTALL
    )
    assert block is not None
    words = block[1].replace("\\\n", " ").split()
    done = launcher(*words, timeout_s=240, COLUMNS="80", HF_HUB_OFFLINE="1", LAUNCHER_ENGINE=str(engine.path))
    printed = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert printed == [line.strip() for line in block[2].splitlines() if line.strip()]


def test_topics_of_help_are_80_columns_wide_and_named_in_the_help_of_help():
    shown = topics()
    assert all(len(line) <= 80 for text in shown.values() for line in text.splitlines())
    help_text = commands()["help"].help
    assert help_text is not None
    assert sorted(re.findall(r"\w+", help_text.split(":")[1])) == sorted(shown)


def test_no_line_of_a_document_is_longer_than_110():
    documents = [ROOT / "README.md", *ROOT.glob("launcher/**/DESIGN.md")]
    tables = ("|", "$ ")  # a row of a table cannot be folded
    too_long = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in documents
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 110 and not line.startswith(tables)
    ]
    assert too_long == []


@pytest.mark.parametrize("shell", sorted(set(re.findall(r"`(scripts/\w+)`", README))))
def test_scripts_in_the_readme_can_be_run(shell):
    script = ROOT / shell
    assert script.stat().st_mode & 0o111


def test_the_repository_speaks_of_the_project_alone():
    """No path of the machine it was written on."""
    assert not re.findall(r"(?<![\w.])/(?:work|root|tmp|home)/\S*", README)
