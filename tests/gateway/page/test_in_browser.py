"""The page in headless Chromium: loads, progress, chat, stop, and errors that explain themselves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launcher.deployment.record import deployment_name
from launcher.gateway.guard import Doors
from tests.gateway.served import Gateway, Kind, serving, until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.filterwarnings("default"),  # playwright's own
]

PICTURES = os.environ.get("LAUNCHER_TEST_PICTURES")  # a folder: screenshots are kept there
SAID = "Hello there, world"
EVIL = "<img src=x onerror=document.title='owned'>"
KINDS = {
    "quick": Kind(1.2, switches=("--think", "First I greet.", "--vision")),
    "slow": Kind(0.5, switches=("--slow-token", "0.7"), load_s=2.0),
    "heavy": Kind(
        0.6,
        fails="llama-server ran out of memory allocating 12.0 GiB on CUDA0",
        hint="launcher up heavy --ctx 8k",
    ),
    "huge": Kind(400.0),
    EVIL: Kind(0.2),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    kinds = {deployment_name(name): kind for name, kind in KINDS.items()}
    with serving(tmp_path, kinds, names={deployment_name(EVIL): EVIL}) as served:
        yield served


@pytest.fixture(params=["light", "dark", "narrow"])
def page(request: pytest.FixtureRequest, browser: Browser, gateway: Gateway) -> Iterator[Page]:
    look = request.param
    size = {"width": 360, "height": 740} if look == "narrow" else {"width": 1200, "height": 800}
    scheme = "dark" if look == "dark" else "light"
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.goto(gateway.url)
    page.wait_for_selector(".model")
    yield page
    if PICTURES is not None:
        name = request.node.name.replace("[", "-").rstrip("]")
        page.screenshot(path=f"{PICTURES}/{name}.png")
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert width <= size["width"], "the page is wider than its window"
    # a refused request is shown by the page itself
    assert [each for each in troubles if "Failed to load resource" not in each] == []


def row(page: Page, name: str) -> str:
    return f'.model[data-name="{name}"]'


def test_a_model_is_loaded_pinned_and_unloaded(page: Page, gateway: Gateway) -> None:
    slow = page.locator(row(page, "slow"))
    slow.get_by_role("button", name="Load slow").click()
    slow.locator("progress").wait_for(state="visible")
    page.wait_for_function("document.querySelector('#memory .planned') !== null")
    slow.get_by_text("loaded", exact=True).wait_for()
    page.get_by_role("img", name="slow 512 MiB").wait_for()
    slow.get_by_role("button", name="Pin slow").click()
    page.wait_for_selector('[aria-label="Pin slow"][aria-pressed=true]')
    assert gateway.keeper.state.models["slow"].pinned
    page.locator("#changes", has_text="slow is loaded").wait_for()
    slow.get_by_role("button", name="Unload slow").click()
    slow.get_by_text("not loaded", exact=True).wait_for()
    until(lambda: not gateway.deployments.processes)


def test_a_failed_load_and_a_model_too_large_are_explained(page: Page) -> None:
    heavy = page.locator(row(page, "heavy"))
    heavy.get_by_role("button", name="Load heavy").click()
    heavy.get_by_text("ran out of memory allocating 12.0 GiB on CUDA0").wait_for()
    assert heavy.locator(".problem code").inner_text() == "launcher up heavy --ctx 8k"
    page.locator("#changes").get_by_text("heavy failed").wait_for()
    page.get_by_role("tab", name="Chat").click()
    page.select_option("#model", "heavy")
    page.fill("#words", "Hi")
    page.keyboard.press("Enter")
    page.locator("#talk .problem b", has_text="ran out of memory").wait_for()
    assert page.locator("#talk .problem code").inner_text() == "launcher up heavy --ctx 8k"


def test_a_chat_streams_with_its_thoughts_folded_and_shows_its_speed(page: Page) -> None:
    page.locator(row(page, "quick")).get_by_role("button", name="Chat with quick").click()
    page.fill("#words", "Hi `there` <b>you</b>")
    page.keyboard.press("Enter")
    page.locator(".assistant", has_text=SAID).wait_for()
    thinking = page.locator(".assistant details")
    assert thinking.get_attribute("open") is None
    thinking.locator("summary").click()
    assert "First I greet." in thinking.inner_text()
    page.locator(".assistant .meta", has_text="100 tokens/s").wait_for()
    assert page.locator(".user b").count() == 0
    page.get_by_role("tab", name="Machine").click()
    page.locator("#requests td", has_text="/v1/chat/completions").wait_for()


def test_a_click_counts_though_the_rows_would_change_places_meanwhile(page: Page, gateway: Gateway) -> None:
    page.get_by_role("button", name="Chat with quick").hover()
    page.mouse.down()
    gateway.call(lambda: gateway.keeper.load("quick"))
    until(lambda: gateway.keeper.state.models["quick"].is_idle)
    with page.expect_response("**/gateway/status"):  # it would be the first now, below a higher map of memory
        pass
    page.wait_for_timeout(500)
    page.mouse.up()
    page.locator("#chat").wait_for()
    assert page.locator("#model").input_value() == "quick"
    assert page.evaluate("document.activeElement.id") == "words"


def test_an_image_goes_to_a_model_that_sees(page: Page, tmp_path: Path) -> None:
    page.locator(row(page, "quick")).get_by_role("button", name="Load quick").click()
    page.locator(row(page, "quick")).get_by_role("button", name="Chat with quick").click()
    page.wait_for_selector("#add-picture:enabled")
    picture = tmp_path / "red.png"
    picture.write_bytes(a_png())
    page.set_input_files("#file", str(picture))
    page.wait_for_selector("#pictures img")
    page.fill("#words", "What is this?")
    with page.expect_request("**/v1/chat/completions") as asked:
        page.click("#send")
    content = asked.value.post_data_json["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")
    page.locator(".assistant", has_text=SAID).wait_for()


def test_who_waits_sees_progress_and_can_stop(page: Page, gateway: Gateway) -> None:
    page.get_by_role("tab", name="Chat").click()
    page.select_option("#model", "slow")
    page.fill("#words", "Hi")
    page.keyboard.press("Enter")
    page.locator(".assistant", has_text="Hello").wait_for()
    page.keyboard.press("Escape")
    page.locator(".assistant .meta", has_text="stopped").wait_for()
    until(lambda: not gateway.keeper.state.active)
    assert "!" not in page.locator(".assistant").inner_text()
    page.select_option("#model", "quick")  # and the talk goes on with another
    page.fill("#words", "And you?")
    page.keyboard.press("Enter")
    page.locator(".assistant", has_text=SAID).last.wait_for()


def test_names_are_text(page: Page) -> None:
    page.locator(".name", has_text=EVIL).wait_for()
    assert page.locator(".model img").count() == 0
    page.get_by_role("tab", name="Chat").click()
    page.select_option("#model", EVIL)
    page.fill("#words", "Hi")
    page.keyboard.press("Enter")
    page.locator(".assistant", has_text=SAID).wait_for()
    assert page.title() == "launcher"


def test_the_keyboard_is_enough(page: Page) -> None:
    page.locator("#tab-machine").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-chat"
    page.locator("#chat").wait_for()
    page.keyboard.press("ArrowLeft")
    page.locator('[aria-label="Load quick"]').focus()
    page.keyboard.press("Enter")
    page.locator(row(page, "quick")).get_by_text("loaded", exact=True).wait_for()
    page.wait_for_timeout(1500)  # the row was drawn again meanwhile
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Unload quick"


def test_where_a_key_is_needed_the_page_asks_for_it(browser: Browser, tmp_path: Path) -> None:
    key = "sk-of-a-test"
    kept = {"name": "phone", "sha256": hashlib.sha256(key.encode()).hexdigest(), "made_at": 0, "models": []}
    (tmp_path / "keys.json").write_text(json.dumps({"schema": 1, "keys": [kept]}))
    with serving(tmp_path, {"a": Kind()}, doors=Doors(needs_key=True)) as gateway:
        page = browser.new_page()
        page.goto(gateway.url)
        page.locator("#gate").wait_for()
        assert not page.locator("#machine").is_visible()
        page.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        page.locator(".model").wait_for()
        page.close()


def a_png() -> bytes:
    """Return a red square of 8 x 8."""

    def part(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (8).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    rows = b"".join(b"\x00" + b"\xff\x00\x00" * 8 for _ in range(8))
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )
