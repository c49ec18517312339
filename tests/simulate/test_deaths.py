"""How a worker process ended, in words."""

from __future__ import annotations

import pytest

from launcher.simulate.deaths import describe_death, is_refusal


class TestDeath:
    def test_ggml_says_why(self) -> None:
        lines = ["noise", "../vendor/llama.cpp/src/x.cpp:13: GGML_ASSERT(a > b) failed", "more noise"]

        assert describe_death(-6, lines) == "it was ended by SIGABRT: x.cpp:13: GGML_ASSERT(a > b) failed"

    def test_an_exception_in_cpp(self) -> None:
        lines = ["terminate called", "  what():  std::bad_alloc"]

        assert describe_death(-6, lines) == "it was ended by SIGABRT: what():  std::bad_alloc"

    def test_an_empty_stderr(self) -> None:
        assert describe_death(-11, ["", " "]) == "it was ended by SIGSEGV"

    def test_an_exit(self) -> None:
        assert describe_death(1, ["ImportError: x"]) == "it exited with status 1: ImportError: x"

    @pytest.mark.parametrize(
        ("status", "lines", "refused"),
        [
            (-6, [], True),
            (-11, [], True),
            (1, ["x.cpp:13: GGML_ASSERT(a > b) failed"], True),
            (-9, [], False),
            (-15, [], False),
            (1, ["ImportError: x"], False),
        ],
    )
    def test_a_crash_of_llama_cpp_is_a_refusal(self, status: int, lines: list[str], refused: bool) -> None:
        assert is_refusal(status, lines) is refused
