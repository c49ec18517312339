import json

from launcher.engine.protocol import Reports


def report(state: str, **payload: object) -> bytes:
    return b"cmd_child_to_router:state:" + json.dumps({"state": state, "payload": payload}).encode() + b"\n"


def test_progress_counts_all_stages() -> None:
    reports = Reports()
    assert reports.loaded is None
    stages = ["text_model", "mmproj"]
    reports.add(report("loading", stages=stages, current="text_model", value=0.5))
    assert reports.loaded == 0.25
    reports.add(report("loading", stages=stages, current="mmproj", value=7))
    assert (reports.loaded, reports.is_ready) == (1.0, False)
    reports.add(report("ready", id="m"))
    assert (reports.loaded, reports.is_ready) == (1.0, True)


def test_what_is_no_report_is_log_however_it_is_cut() -> None:
    text = b"hello\n\n" + report("ready") + b"world\n"
    for cut in range(len(text)):
        reports = Reports()
        assert reports.add(text[:cut]) + reports.add(text[cut:]) == b"hello\nworld\n"
        assert reports.is_ready


def test_nonsense_is_survived() -> None:
    reports = Reports()
    for payload in (
        b"{",
        b"[" * 100_000,
        b"[1]",
        b'{"state": "loading", "payload": {"stages": 3, "value": "x"}}',
    ):
        assert reports.add(b"cmd_child_to_router:state:" + payload + b"\n") == b""
    assert (reports.loaded, reports.is_ready) == (None, False)
    assert len(reports.add(b"x" * (2 << 20))) == (2 << 20) + 1
