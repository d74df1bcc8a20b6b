"""A list of messages as this model reads it: earlier turns, the question, and the one medium that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from facellava.server.faces import Medium
from facellava.server.media import Sources
from facellava.server.problems import Problem
from facellava.server.schemas import ImagePart, Message, VideoPart
from facellava.server.settings import Bounds

__all__ = ["Conversation", "Reference", "read_messages", "the_medium"]


class Reference(NamedTuple):
    """Where a medium is, and in which field of the request that stands."""

    address: str
    param: str


class Conversation(NamedTuple):
    """Turns (question, answer) that came before, the question, and the media of each message that has some."""

    history: list[tuple[str, str]]
    question: str
    media: list[list[Reference]]


class _Turn(NamedTuple):
    role: str
    texts: list[str]


def read_messages(messages: Sequence[Message], bounds: Bounds) -> Conversation:
    """Sort out a conversation.

    What a system message says is put before the question that follows it; neighbouring messages of one side are one.

    Raises:
        Problem: 400 where it does not end with a question, is too long, or shows nothing.
    """
    if len(messages) > bounds.messages:
        raise Problem(
            400, "too_many_messages", f"a conversation has at most {bounds.messages} messages", param="messages"
        )
    turns: list[_Turn] = []
    media: list[list[Reference]] = []
    for number, message in enumerate(messages):
        texts, references = _content(message, f"messages.{number}.content")
        role = "assistant" if message.role == "assistant" else "user"
        if references and message.role != "user":
            raise Problem(400, "usage", "pictures and videos come in the user's messages", param=f"messages.{number}")
        if references:
            media.append(references)
        if turns and turns[-1].role == role:
            turns[-1].texts.extend(texts)
        else:
            turns.append(_Turn(role, texts))
    return Conversation(*_turns(turns, bounds), media)


def _content(message: Message, param: str) -> tuple[list[str], list[Reference]]:
    if message.content is None or isinstance(message.content, str):
        return [message.content or ""], []
    texts, references = [], []
    for number, part in enumerate(message.content):
        where = f"{param}.{number}"
        if isinstance(part, ImagePart):
            references.append(Reference(part.image_url.url, f"{where}.image_url.url"))
        elif isinstance(part, VideoPart):
            references.append(Reference(part.video_url.url, f"{where}.video_url.url"))
        elif part.type == "file":
            references.append(Reference(part.file.file_id or part.file.file_data or "", f"{where}.file"))
        else:
            texts.append(part.text)
    return texts, references


def _turns(turns: Sequence[_Turn], bounds: Bounds) -> tuple[list[tuple[str, str]], str]:
    if turns[0].role != "user" or turns[-1].role != "user":
        raise Problem(400, "usage", "a conversation starts and ends with a message of the user", param="messages")
    said = ["\n".join(text.strip() for text in turn.texts if text.strip()) for turn in turns]
    if not said[-1]:
        raise Problem(400, "usage", "the question is empty: the last message needs a text", param="messages")
    if sum(map(len, said)) > bounds.texts:
        raise Problem(400, "too_long", f"a conversation has at most {bounds.texts:,} letters", param="messages")
    return list(zip(said[:-1:2], said[1:-1:2], strict=True)), said[-1]


async def the_medium(media: Sequence[Sequence[Reference]], sources: Sources, bounds: Bounds) -> Medium:
    """The picture or video that a conversation is about; clients send it again with every question.

    Raises:
        Problem: 400 where there is none, too many, or a second, other one. Whatever ``Sources.read`` raises.
    """
    if not media:
        raise Problem(
            400,
            "no_media",
            "a conversation needs a picture or a video: add an image_url or video_url part",
            param="messages",
        )
    known: dict[str, bytes] = {}
    found: Medium | None = None
    for references in media:
        for address, param in references:
            if address not in known:
                known[address] = await sources.read(address, param)
            if len(known) > bounds.pictures:
                limit = f"a conversation has at most {bounds.pictures} pictures"
                raise Problem(400, "too_many_pictures", limit, param=param)
        medium = Medium.of([known[address] for address, _ in references])
        if found is not None and medium.digest != found.digest:
            raise Problem(
                400,
                "several_media",
                "a conversation is about one picture or video: start another one for another",
                param=references[0].param,
            )
        found = medium
    assert found is not None
    return found
