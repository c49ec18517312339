#!/usr/bin/env python3
"""A llama-server without llama.cpp: its command line, log lines, HTTP surface and ways to die.

Standard library only, so that it runs under any Python. `tests/engine/test_contract.py` holds it and the
real engine to the same expectations. Switches of its own:

  --load-seconds S     answer 503 for so long          --hang-in-load       for ever
  --exit-code N        end with N instead of loading   --log-text TEXT      … after logging TEXT
  --crash-after S      abort so long after the start   --die-at-token       abort when asked for a token
  --slow-token S       before every token              --fail-chat          the chat parser's HTTP 500
  --ignore-sigterm     end by SIGKILL only             --spawn-grandchild FILE   its pid in FILE, deaf to SIGTERM
  --leave-session      the grandchild leaves the session, too
  --die-at-long-prompt N   abort when a prompt has more than N tokens
  --deaf-after S       stop answering HTTP so long after the start
  --take-vram FILE MIB     write MIB into FILE when half is loaded: what the stand-in for NVML says is in use
  --think TEXT         say this as reasoning first     --vision             see images, as /props says
  --crash-once FILE    abort 0.2 s after the first load that finds FILE absent, and write FILE

Under LLAMA_SERVER_ROUTER_PORT it is a child, as llama-server is: states on stdout, `cmd_router_to_child:exit`
on stdin ends it, and so does the end of stdin once it has loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WORDS = ("Hello", " there", ",", " world", "\u2028line", "!")
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
BEGAN = time.monotonic()

DEAF_CHILD = (
    "import signal, sys, time, os\n"
    "if sys.argv[2] == 'leave': os.setsid()\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
    "time.sleep(600)\n"
)


def log(level: str, text: str) -> None:
    """A line as common/log.cpp writes it."""
    ms = int((time.monotonic() - BEGAN) * 1e6)
    stamp = f"{ms // 60_000_000}.{ms // 1_000_000 % 60:02}.{ms // 1000 % 1000:03}.{ms % 1000:03}"
    sys.stderr.write(f"{stamp} {level} {text}\n")
    sys.stderr.flush()


class Parser(argparse.ArgumentParser):
    """Fails as common/arg.cpp does."""

    def error(self, message: str) -> None:
        sys.stderr.write(f"error: invalid argument: {message.rpartition(': ')[2].split()[0]}\n")
        sys.exit(1)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--model", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=4096)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("--alias", default=None)
    parser.add_argument("--api-key-file", default=None)
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--take-vram", nargs=2)
    parser.add_argument("--die-at-long-prompt", type=int, default=None)
    parser.add_argument("--deaf-after", type=float, default=None)
    parser.add_argument("--crash-once", type=Path, default=None)
    parser.add_argument("--metrics", action="store_true")
    for ignored in ("--fit", "--cache-ram", "-t", "-lm"):
        parser.add_argument(ignored)
    parser.add_argument("--load-seconds", type=float, default=0.0)
    parser.add_argument("--hang-in-load", action="store_true")
    parser.add_argument("--exit-code", type=int, default=None)
    parser.add_argument("--log-text", default="")
    parser.add_argument("--crash-after", type=float, default=None)
    parser.add_argument("--die-at-token", action="store_true")
    parser.add_argument("--slow-token", type=float, default=0.0)
    parser.add_argument("--keep-streams-open", action="store_true")
    parser.add_argument("--fail-chat", action="store_true")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--spawn-grandchild", default=None)
    parser.add_argument("--leave-session", action="store_true")
    parser.add_argument("--think", default="")
    parser.add_argument("--vision", action="store_true")
    return parser.parse_args(arguments)


class Server(ThreadingHTTPServer):
    """Holds what the handlers need. The base class sets SO_REUSEADDR, as llama-server does."""

    daemon_threads = True

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loaded = False
        self.keys = read_keys(options.api_key_file)
        super().__init__((options.host, options.port), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """llama-server does not log requests at its default verbosity."""

    def do_GET(self) -> None:
        if not self._allowed():
            return
        model = self.server.options.alias or self.server.options.model
        deaf = self.server.options.deaf_after
        if deaf is not None and time.monotonic() - BEGAN > deaf:
            time.sleep(600)
        if self.path in {"/health", "/v1/health"}:
            self._json(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": model, "object": "model"}]})
        elif self.path == "/metrics" and self.server.options.metrics:
            self._text(
                "# TYPE llamacpp:predicted_tokens_seconds gauge\nllamacpp:predicted_tokens_seconds 100\n"
            )
        elif self.path == "/props":
            options = self.server.options
            settings = {"n_ctx": options.ctx_size}
            answer = {"default_generation_settings": settings, "total_slots": options.parallel}
            answer["modalities"] = {"vision": options.vision, "audio": False}
            self._json(200, {**answer, "model_path": options.model, "build_info": "b0-fake"})
        else:
            self._error(404, "File Not Found", "not_found_error")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if not self._allowed():
            return
        if self.path == "/completion":
            limit, prompt = self.server.options.die_at_long_prompt, body.get("prompt")
            if limit is not None and isinstance(prompt, list) and len(prompt) > limit:
                log("E", "ggml_backend_cuda_graph_compute: CUDA error: out of memory")
                os.abort()
            self._stream(completion(body))
        elif self.path == "/v1/chat/completions":
            self._chat(body)
        else:
            self._error(404, "File Not Found", "not_found_error")

    def _chat(self, body: dict[str, object]) -> None:
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(self._reads(m.get("content")) for m in messages):
            self._error(400, "Expected 'content' to be a string or an array", "invalid_request_error")
        elif self.server.options.fail_chat:
            self._error(500, "Failed to parse input at pos 0: <s>", "server_error")
        else:
            self._stream(chat(body, str(body.get("model", "")), self.server.options.think))

    def _reads(self, content: object) -> bool:
        return isinstance(content, str) or (self.server.options.vision and isinstance(content, list))

    def _allowed(self) -> bool:
        public = self.path in {"/health", "/v1/health"}
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.keys and not public and given not in self.server.keys:
            self._error(401, "Invalid API Key", "authentication_error")
        elif not self.server.loaded:
            self._json(503, LOADING)
        else:
            return True
        return False

    def _stream(self, events: list[str]) -> None:
        options = self.server.options
        if options.die_at_token:
            log("E", "ggml_backend_cuda_graph_compute: CUDA error: out of memory")
            os.abort()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            time.sleep(options.slow_token)
            data = f"data: {event}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        if options.keep_streams_open:
            time.sleep(600)
        self.wfile.write(b"0\r\n\r\n")

    def _error(self, code: int, message: str, kind: str) -> None:
        self._json(code, {"error": {"code": code, "message": message, "type": kind}})

    def _text(self, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _json(self, code: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def completion(body: dict[str, object]) -> list[str]:
    n_predict = int(str(body.get("n_predict", 4)))
    words = WORDS[:n_predict]
    events: list[dict[str, object]] = [
        {"index": 0, "content": word, "stop": False, "tokens_predicted": i + 1}
        for i, word in enumerate(words)
    ]
    events.append({"index": 0, "content": "", "stop": True, "tokens_predicted": len(words)})
    return [json.dumps(event, ensure_ascii=False) for event in events]


def chat(body: dict[str, object], model: str, thoughts: str) -> list[str]:
    words = WORDS[: int(str(body.get("max_tokens", len(WORDS))))]
    head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 0, "model": model}
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": None}]
    deltas += [{"reasoning_content": f"{word} "} for word in thoughts.split()]
    deltas += [{"content": word} for word in words]
    chunks: list[dict[str, object]] = [
        {**head, "choices": [{"finish_reason": None, "index": 0, "delta": delta}]} for delta in deltas
    ]
    finish = "stop" if len(words) == len(WORDS) else "length"
    last = {**head, "choices": [{"finish_reason": finish, "index": 0, "delta": {}}]}
    chunks.append({**last, "timings": {"predicted_per_second": 100.0}})
    return [json.dumps(chunk, ensure_ascii=False) for chunk in chunks] + ["[DONE]"]


def read_keys(path: str | None) -> set[str]:
    lines = [] if path is None else Path(path).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def tell(state: str, payload: dict[str, object]) -> None:
    """As server_child::notify_to_router does."""
    if "LLAMA_SERVER_ROUTER_PORT" in os.environ:
        document = json.dumps({"state": state, "payload": payload}, separators=(",", ":"))
        sys.stdout.write(f"\ncmd_child_to_router:state:{document}\n")
        sys.stdout.flush()


def obey(end: Callable[[], None]) -> None:
    """As server_child::setup does: begins once the model is loaded."""
    for line in sys.stdin:
        if "cmd_router_to_child:exit" in line:
            log("I", "srv    operator(): exit command received, exiting...")
            end()
            return
    log("I", "srv    operator(): EOF on stdin detected, forcing shutdown...")
    os._exit(1)


def load(options: argparse.Namespace) -> None:
    """Look at the file as gguf_init_from_file does, then take the time asked for."""
    log("I", f"srv    load_model: loading model '{options.model}'")
    try:
        with Path(options.model).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        reason = f"gguf_init_from_file: failed to open GGUF file '{options.model}' ({error.strerror})"
    else:
        reason = (
            ""
            if magic == b"GGUF"
            else "gguf_init_from_reader: invalid magic characters: '????', expected 'GGUF'"
        )
    if options.exit_code is not None or reason:
        log("E", reason or options.log_text)
        log("E", f"cmn  common_init_: failed to load model '{options.model}'")
        log("E", "srv  llama_server: exiting due to model loading error")
        sys.stderr.flush()
        os._exit(1 if options.exit_code is None else options.exit_code)
    for tenth in range(10 if options.load_seconds else 1):
        tell("loading", {"stages": ["text_model"], "current": "text_model", "value": tenth / 10})
        time.sleep(options.load_seconds / 10)
        if options.take_vram and tenth == 5:
            Path(options.take_vram[0]).write_text(options.take_vram[1])
    while options.hang_in_load:
        time.sleep(60)


def crash_once(options: argparse.Namespace) -> None:
    if options.crash_once is not None and not options.crash_once.exists():
        options.crash_once.write_text("crashed")
        threading.Timer(0.2, os.abort).start()


def main() -> None:
    options = parse(sys.argv[1:])
    if options.version:
        sys.stderr.write("version: 0.5.0-dev (build 0, commit fake000)\n")
        return
    if options.spawn_grandchild:
        how = "leave" if options.leave_session else "stay"
        subprocess.Popen([sys.executable, "-c", DEAF_CHILD, options.spawn_grandchild, how])
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.crash_after is not None:
        threading.Timer(options.crash_after, os.abort).start()
    try:
        server = Server(options)
    except OSError:
        where = f"hostname: {options.host}, port: {options.port}"
        log("E", f"srv         start: couldn't bind HTTP server socket, {where}")
        log("E", "srv  llama_server: exiting due to HTTP server error")
        sys.exit(1)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load(options)
    server.loaded = True
    crash_once(options)
    log("I", f"srv  llama_server: listening on http://{options.host}:{options.port}")
    ended = threading.Event()

    def end(_number: int, _frame: object) -> None:
        if ended.is_set():
            os._exit(1)
        ended.set()

    if not options.ignore_sigterm:
        signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    tell("ready", {"id": options.alias or options.model})
    if "LLAMA_SERVER_ROUTER_PORT" in os.environ and not options.ignore_sigterm:
        threading.Thread(target=obey, args=(ended.set,), daemon=True).start()
    ended.wait()
    log("I", "srv    operator(): operator(): cleaning up before exit...")


if __name__ == "__main__":
    main()
