"""A server's line in llama-bench's words."""

from __future__ import annotations

from launcher.engine.flags.bench_argv import bench_argv, speed_words


def test_placement_and_batches_are_said_in_its_words() -> None:
    line = (
        "-m", "/m.gguf", "-a", "m", "--host", "127.0.0.1", "--port", "8080", "-fit", "off", "-c", "32768", "-np", "1",
        "-kvu", "-b", "2048", "-ub", "512", "-ctk", "f16", "-ctv", "q8_0", "-fa", "auto", "-cram", "8192",
        "-dev", "CUDA0,CUDA1", "-ngl", "95", "-sm", "layer", "-ts", "70,25", "-ot", "blk\\.1=CPU,blk\\.2=CUDA1",
        "-lm", "none", "-t", "8", "-tb", "8", "--metrics", "--no-kv-offload",
    )  # fmt: skip
    assert bench_argv(line, "/e/llama-bench") == (
        "/e/llama-bench", "-m", "/m.gguf", "-b", "2048", "-ub", "512", "-ctk", "f16", "-ctv", "q8_0", "-fa", "auto",
        "-dev", "CUDA0/CUDA1", "-ngl", "95", "-sm", "layer", "-ts", "70/25", "-ot", "blk\\.1=CPU;blk\\.2=CUDA1",
        "-lm", "none", "-t", "8", "-nkvo", "1",
    )  # fmt: skip


def test_what_decides_the_speed_is_said_in_one_order() -> None:
    line = (
        "-m",
        "/m.gguf",
        "-a",
        "m",
        "-t",
        "8",
        "-tb",
        "16",
        "-c",
        "4096",
        "-ub",
        "512",
        "--spec-type",
        "ngram-mod",
    )
    words = speed_words(line)
    assert words == ("--spec-type", "ngram-mod", "-t", "8", "-tb", "16", "-ub", "512")
    assert speed_words(("--threads", "8", "-ub", "512", *line[6:8], *line[-2:], "-c", "8192")) == words
