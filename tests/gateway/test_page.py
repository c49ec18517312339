"""The page in a real browser without a screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gateway.served import Kind, serving
from tests.gateway.test_serving import chat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
def test_the_page_shows_models_memory_and_what_failed(tmp_path: Path) -> None:
    kinds = {
        "a": Kind(0.5),
        "b<i>": Kind(0.5),
        "broken": Kind(0.1, fails="the file is cut short <script>x</script>"),
    }
    with serving(tmp_path, kinds) as gateway:
        chat(gateway, "a")
        with pytest.raises(Exception, match="cut short"):
            chat(gateway, "broken")
        command = [
            str(CHROMIUM),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}/c",
        ]
        command += ["--window-size=360,900", "--virtual-time-budget=3000", "--dump-dom", gateway.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    text = done.stdout
    body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "1 of 3 models loaded" in body
    assert 'aria-label="unload a"' in body
    assert "ram: 512 MiB held, 1.5 GiB free for models" in body
    # what comes from elsewhere is text
    assert "the file is cut short &lt;script&gt;" in body
