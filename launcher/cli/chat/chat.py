"""Talk to a running deployment: one answer, or a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.cli.chat.answer import Answer, print_answer, stream_answer
from launcher.cli.chat.editor import make_editor
from launcher.cli.chat.keys import keys_unseen
from launcher.cli.chat.requests import Asked, question_message
from launcher.cli.chat.slash import COMMANDS, Conversation, obey
from launcher.cli.show.output import Output
from launcher.deployment.record import Deployment
from launcher.errors import LauncherError
from launcher.models.profiles.profile import ModelProfile
from launcher.system.settings import Settings


def answer_once(
    deployment: Deployment, prompt: str, asked: Asked, images: Sequence[Path], out: Output
) -> None:
    """Stream one answer to stdout; under --json print it whole."""
    messages = [question_message(prompt, images)]
    if not out.as_json:
        print_answer(deployment, messages, asked, out)
        return
    answer = Answer()
    for _ in stream_answer(deployment, messages, asked, answer):
        pass
    given = {
        "answer": answer.text,
        "reasoning": answer.reasoning or None,
        "finish_reason": answer.finish_reason,
        "tokens_per_s": answer.tokens_per_s,
    }
    out.show({"name": deployment.name, "url": deployment.url, "model_id": deployment.model_id, **given})


def converse(
    deployment: Deployment, asked: Asked, images: Sequence[Path], out: Output, settings: Settings
) -> None:
    """Chat until the user ends it. Ctrl-C ends the answer under way; at the prompt, the chat."""
    out.say(f"chatting with {deployment.model_id}: /help, Ctrl-D leaves, the server stays up")
    conversation = Conversation(asked, _profile_of(deployment, settings), images=list(images))
    read = make_editor(settings.state_dir / "chat_history", COMMANDS)
    while not conversation.is_over:
        try:
            typed = read().strip()
        except (EOFError, KeyboardInterrupt):
            out.say("")
            return
        if typed.startswith("/"):
            _obey(conversation, typed, out)
        elif typed:
            _ask(conversation, deployment, typed, out)


def _obey(conversation: Conversation, typed: str, out: Output) -> None:
    try:
        said = obey(conversation, typed)
    except LauncherError as error:
        out.error(error)
        return
    for line in said.splitlines():
        out.say(line)


def _ask(conversation: Conversation, deployment: Deployment, typed: str, out: Output) -> None:
    talk = conversation.talk
    n_before = len(talk)
    try:
        talk.append(question_message(typed, conversation.images))
        with keys_unseen():
            answer = print_answer(deployment, talk, conversation.asked, out, thinking=conversation.thinking)
        talk.append({"role": "assistant", "content": answer.text})
        conversation.images.clear()
    except KeyboardInterrupt:
        del talk[n_before:]  # a question without an answer is no part of the conversation
        out.write("\n")
    except LauncherError as error:  # a context that is full, an image for a model without eyes
        del talk[n_before:]
        conversation.images.clear()
        out.error(error)


def _profile_of(deployment: Deployment, settings: Settings) -> ModelProfile | None:
    from launcher.models.catalogue import read_profiles

    found = read_profiles(settings).usable
    return next((each for each in found if each.name == deployment.model_id.partition(":")[0]), None)
