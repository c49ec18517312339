from launcher.engine.log.quiet import QuietLog

REQUEST = b"""\
0.03.710.513 I srv    operator(): chat format: peg-native
0.03.710.648 I slot get_availabl: id  0 | task -1 | selected slot by LCP similarity
0.03.710.704 I slot launch_slot_: id  0 | task -1 | sampler params:
\trepeat_last_n = 64, repeat_penalty = 1.000
\ttop_k = 40
0.03.710.719 W slot   operator(): id  0 | task 8 | need to evaluate at least 1 token
0.03.711.974 I slot print_timing: id  0 | task 8 | prompt eval time =       0.57 ms /     1 tokens
0.03.712.019 I slot print_timing: id  0 | task 8 |    graphs reused =          7
0.03.712.061 I slot      release: id  0 | task 8 | stop processing: n_tokens = 28, truncated = 0
"""
KEPT = b"""\
0.03.710.719 W slot   operator(): id  0 | task 8 | need to evaluate at least 1 token
0.03.711.974 I slot print_timing: id  0 | task 8 | prompt eval time =       0.57 ms /     1 tokens
"""


def test_of_a_request_speed_and_warnings_are_left() -> None:
    assert QuietLog().add(REQUEST, quiet=True) == KEPT
    assert QuietLog().add(REQUEST, quiet=False) == REQUEST


def test_it_does_not_matter_how_blocks_are_cut() -> None:
    for size in (1, 7, 100):
        log = QuietLog()
        blocks = [REQUEST[at : at + size] for at in range(0, len(REQUEST), size)]
        assert b"".join(log.add(block, quiet=True) for block in blocks) + log.end() == KEPT


def test_last_words_are_kept() -> None:
    words = b"0.1 I slot release: x\n/ggml.c:1: GGML_ASSERT(x) failed\nerror: \xff\nterminate called"
    log = QuietLog()
    assert log.add(words, quiet=True) + log.end() == words.partition(b"\n")[2]


def test_a_line_without_end_is_not_held_back_for_ever() -> None:
    log = QuietLog()
    given = b"".join(log.add(b"x" * 10_000, quiet=True) for _ in range(100))
    assert len(given) + len(log.end()) == 1_000_000
    assert len(given) > 900_000


def test_so_much_of_a_line_is_held_back() -> None:
    log = QuietLog()
    assert log.add(b"x" * (64 << 10), quiet=True) == b""
    assert log.add(b"y", quiet=True) == b"x" * (64 << 10) + b"y"
    assert log.add(b"0.1 I srv x: y\n", quiet=True) == b""
