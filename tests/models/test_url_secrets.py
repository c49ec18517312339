from __future__ import annotations

from launcher.models.url_secrets import quote_command, strip_secrets, strip_word_secrets


def test_user_password_query_and_fragment_are_stripped() -> None:
    url = "https://u:p@h/d/My%20Model-00002-of-00003.gguf?x=1#f"
    assert strip_secrets(url) == "https://h/d/My%20Model-00002-of-00003.gguf"
    assert strip_word_secrets(url) == strip_secrets(url)
    assert strip_word_secrets("u@h?x") == "u@h?x"


def test_a_quoted_command_says_when_secrets_are_left_out() -> None:
    assert quote_command(["launcher", "pull", "a b"]) == "launcher pull 'a b'"
    line = quote_command(["launcher", "pull", "https://h/x.gguf?key=1"])
    assert line.startswith("launcher pull https://h/x.gguf: ")
    assert "key=1" not in line
