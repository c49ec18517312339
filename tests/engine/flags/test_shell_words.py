"""Command lines as they are pasted from a shell."""

from __future__ import annotations

import pytest

from launcher.engine.flags.command_line import read_command
from launcher.errors import UsageError


def test_words_and_one_quoted_string_are_the_same() -> None:
    words = ["CUDA_VISIBLE_DEVICES=1", "llama-server", "-m", "a b.gguf", "-c", "4096", "--jinja"]
    quoted = "CUDA_VISIBLE_DEVICES=1 llama-server \\\n  -m 'a b.gguf' -c 4096 \\\n  --jinja"
    assert read_command([quoted]) == read_command(words)
    assert read_command(words).variables == (("CUDA_VISIBLE_DEVICES", "1"),)
    assert read_command(words).others == ("--jinja",)


@pytest.mark.parametrize(
    "line",
    [
        "export CUDA_VISIBLE_DEVICES=0; cd ~/x && ./llama-server -m a.gguf -c 8 # 8 tokens",
        "CUDA_VISIBLE_DEVICES=0 nohup ./llama-server -m a.gguf -c 8 > log.txt 2>&1 &",
        "export CUDA_VISIBLE_DEVICES=0\n# start\n./llama-server -m a.gguf \\\n -c 8\ncurl localhost:8080",
        "CUDA_VISIBLE_DEVICES=0 sudo -E ./llama-server -m a.gguf 2>/dev/null -c 8; echo done",
        "CUDA_VISIBLE_DEVICES=0 ./llama-server -m a.gguf -c 8 >>log&",
        "CUDA_VISIBLE_DEVICES=0 ./llama-server -m a.gguf -c 8 || echo 'it -m failed'",
    ],
)
def test_the_command_is_taken_out_of_a_shells_line(line: str) -> None:
    read = read_command([line])
    plain = read_command(["CUDA_VISIBLE_DEVICES=0", "./llama-server", "-m", "a.gguf", "-c", "8"])
    assert read == plain


def test_quotes_keep_what_a_shell_would_read() -> None:
    line = """llama-server -m 'a #1.gguf' -ot "blk\\.(1|2) = CPU" --alias a\\;b --api-prefix /x#y -c 8"""
    read = read_command([line])
    assert (read.model, read.configuration.ctx_size) == ("./a #1.gguf", 8)
    assert (dict(read.address), read.others) == ({"--alias": "a;b"}, ("--api-prefix", "/x#y"))


def test_another_program_is_named() -> None:
    with pytest.raises(UsageError, match="'ollama' is neither"):
        read_command(["ollama", "run", "x"])


def test_a_variable_with_blanks_is_one_of_several_words() -> None:
    read = read_command(["GREETING=two words", "llama-server", "-m", "a.gguf", "-c", "8"])
    assert (read.variables, read.model) == ((("GREETING", "two words"),), "./a.gguf")
    assert read.configuration.ctx_size == 8


def test_variables_alone_may_name_the_model() -> None:
    read = read_command(["LLAMA_ARG_MODEL=a.gguf", "LLAMA_ARG_CTX_SIZE=8"])
    assert (read.model, read.configuration.ctx_size, read.corrected) == ("./a.gguf", 8, ())


@pytest.mark.parametrize("program", ["llama", "/usr/bin/llama", "llama.exe"])
def test_the_unified_program_serves(program: str) -> None:
    read = read_command(["X=1", program, "serve", "-m", "a.gguf", "-c", "8"])
    assert (read.variables, read.model, read.refused) == ((("X", "1"),), "./a.gguf", ())
    assert read.corrected == ("-m", "a.gguf", "-c", "8")


@pytest.mark.parametrize(
    "line", ["llama run -m a.gguf", "llama -m a.gguf", "ollama serve", "vllm serve -m a"]
)
def test_other_verbs_and_programs_are_no_server(line: str) -> None:
    with pytest.raises(UsageError, match=f"'{line.split(maxsplit=1)[0]}' is neither"):
        read_command([line])
