"""What begins with / in a conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from launcher.cli.chat.requests import Asked, image_url
from launcher.engine.chat import Message
from launcher.errors import UsageError
from launcher.models.profiles.modes import pick_mode, request_fields
from launcher.models.profiles.profile import ModelProfile
from launcher.system.atomic_files import write_named
from launcher.system.settings import expand_home

HELP = """\
/system [TEXT]       what the model is to be; without TEXT nothing again
/set NAME [VALUE]    temperature, max-tokens, seed, thinking (on, off)
/mode [NAME]         a mode of the profile: thinking, instant
/image FILE          goes with the next question
/clear               forget what was said
/save FILE           write the conversation as Markdown
/bye                 leave; so does Ctrl-D. Ctrl-C stops an answer
Alt-Enter begins a new line; what is pasted stays in one piece."""
COMMANDS = ("/help", "/clear", "/system", "/set", "/mode", "/image", "/save", "/bye")
_NUMBERS: dict[str, tuple[str, type[int | float]]] = {
    "temperature": ("temperature", float),
    "max-tokens": ("max_tokens", int),
    "seed": ("seed", int),
}


@dataclass(slots=True)
class Conversation:
    asked: Asked
    profile: ModelProfile | None = None
    talk: list[Message] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)  # of the next question
    thinking: bool = False  # shown, not folded
    is_over: bool = False


def obey(conversation: Conversation, typed: str) -> str:
    """Carry out a command of the conversation, and return what to say. Raises UsageError."""
    name, _, rest = typed.partition(" ")
    commands: dict[str, Callable[[Conversation, str], str]] = {
        "/help": lambda _, __: HELP,
        "/clear": _clear,
        "/system": _system,
        "/set": _set,
        "/mode": _mode,
        "/image": _image,
        "/save": _save,
        "/bye": _bye,
    }
    if name not in commands:
        raise UsageError(f"there is no {name[:40]}", hint="/help")
    return commands[name](conversation, rest.strip())


def _clear(conversation: Conversation, _: str) -> str:
    conversation.talk.clear()
    conversation.images.clear()
    return "forgotten"


def _bye(conversation: Conversation, _: str) -> str:
    conversation.is_over = True
    return ""


def _system(conversation: Conversation, text: str) -> str:
    conversation.asked = Asked(text or None, conversation.asked.fields)
    return "set" if text else "no system prompt"


def _set(conversation: Conversation, rest: str) -> str:
    name, _, value = rest.partition(" ")
    if name == "thinking" and value in {"on", "off"}:
        conversation.thinking = value == "on"
        return f"thinking is {'shown' if conversation.thinking else 'folded'}"
    if name not in _NUMBERS:
        raise UsageError(
            f"/set knows {', '.join(_NUMBERS)} and thinking on or off", hint="/set temperature 0.2"
        )
    key, kind = _NUMBERS[name]
    try:
        number = kind(value) if value else None
    except ValueError:
        raise UsageError(f"{value[:40]!r} is no {name}", hint=f"/set {name} 1") from None
    if number is not None and not -1 <= number <= 1 << 31:  # NaN neither
        raise UsageError(f"{value[:40]!r} is out of range for {name}", hint=f"/set {name} 1")
    conversation.asked = conversation.asked.with_field(key, number)
    return f"{name} {'as the model has it' if number is None else number}"


def _mode(conversation: Conversation, name: str) -> str:
    profile = conversation.profile
    if profile is None:
        raise UsageError("this model has no profile, and modes are a profile's", hint="/set temperature 0.2")
    if not name:
        return ", ".join(mode.name for mode in profile.modes)
    try:
        mode = pick_mode(profile, name)
    except UsageError as error:
        raise UsageError(error.message, hint=f"/mode {profile.modes[0].name}") from None
    for key, value in request_fields(mode).items():
        conversation.asked = conversation.asked.with_field(key, value)
    return f"mode {mode.name}"


def _image(conversation: Conversation, name: str) -> str:
    file = _file(name)
    image_url(file)  # said now if it cannot be read
    conversation.images.append(file)
    return f"{file.name} goes with the next question"


def _save(conversation: Conversation, name: str) -> str:
    if not name:
        raise UsageError("/save needs a file", hint="/save talk.md")
    file = _file(name)
    said = [f"**{message['role']}**\n\n{_text_of(message)}\n" for message in conversation.talk]
    try:
        write_named(file, "\n".join(said).encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint="/save talk.md") from error
    return f"saved in {file}"


def _file(name: str) -> Path:
    if not name.isprintable():  # a pasted NUL, half a character
        raise UsageError(f"{name[:40]!r} is no name of a file", hint="/save talk.md")
    return expand_home(Path(name))


def _text_of(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])
