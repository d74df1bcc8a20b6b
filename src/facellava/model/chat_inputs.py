"""What transformers' pipelines and Auto classes hand over, as conversations about one picture or video each.

A conversation is a list of messages whose content is text or parts, or a text alone: a question, or a prompt that
``apply_chat_template`` wrote. The processor turns the picture into a clip and goes on as with any clip.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from transformers.image_utils import load_image

from facellava.errors import UsageError
from facellava.model.prompt import PromptStyle
from facellava.types import FaceClip

__all__ = [
    "Chat",
    "FaceReader",
    "Message",
    "check_options",
    "conversations",
    "is_single",
    "plain_text",
    "read_chats",
    "written",
]

Message = Mapping[str, Any]
"""``{"role": "user" | "assistant", "content": text}``; content may also be ``[{"type": "text", "text": ...}, ...]``."""

MEDIA = ("images", "videos", "text")
"""Under which names pictures and words come besides messages."""
MARKS = {"image": "<image>", "video": "<video>"}
"""Stand for the visual tokens in written prompts."""
_HOLDERS = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}
"""Keys of a part under which transformers looks for its picture or video."""
_ACCEPTED: Mapping[str, tuple[Any, ...]] = {
    "return_tensors": ("pt", "auto", None),
    "padding": (True, "longest", False, None),
    "truncation": (False, None),
    "add_special_tokens": (True, False, None),
    "add_generation_prompt": (True, False, None),
    "return_assistant_tokens_mask": (False, None),
    "sanitize_control_tokens": (False, None),
    "load_audio_from_video": (False, None),
    "chat_template": (None,),
    "tools": (None,),
    "documents": (None,),
    "audio": (None,),
}
"""Options of transformers that change nothing here, with the values that may be asked for."""


class FaceReader(Protocol):
    """What finds the face that a chat is about, ``facellava.face.OneFace`` for example."""

    def __call__(self, source: Any, /) -> FaceClip:
        """The largest face of a picture or video; raises NoFace where there is none."""
        ...


class Chat(NamedTuple):
    """A conversation and what it is about.

    Attributes:
        messages: user and assistant by turns. source: a picture, a video or a ``FaceClip``.
        started: how the answer begins, "" where nothing of it is given.
        answered: the last message is a whole answer, and nothing is asked.
    """

    messages: Sequence[Message]
    source: Any
    started: str = ""
    answered: bool = False


def plain_text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Text of a message; picture parts are dropped, since every conversation opens with the face."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


def conversations(messages: Any) -> list[Sequence[Message]]:
    """One conversation or several -> several; one may also be an object with ``messages``, as pipelines make it."""
    if is_single(messages):
        return [[message for message in getattr(messages, "messages", messages) if isinstance(message, Mapping)]]
    return [getattr(item, "messages", item) for item in messages]


def is_single(messages: Any) -> bool:
    """Whether this is one conversation and not a list of them."""
    messages = getattr(messages, "messages", messages)
    return any(isinstance(message, Mapping) for message in messages)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what cannot be done; ``MEDIA`` are no options.

    Raises:
        UsageError: an option that is not known, or a value that is not available.
    """
    for name, value in options.items():
        if name in MEDIA:
            continue
        if name not in _ACCEPTED:
            raise UsageError(f"the processor has no option '{name}'; those of generate go in generate_kwargs")
        if not any(value is known or (isinstance(known, str) and value == known) for known in _ACCEPTED[name]):
            raise UsageError(f"{name}={value!r} is not available here: leave it out")


def read_chats(
    messages: Any, given: Mapping[str, Any], style: PromptStyle, continued: bool | None = None
) -> list[Chat]:
    """Conversations with what each is about.

    Args:
        messages: one conversation or several, or None for ``given["text"]``.
        given: ``images``, ``videos``, ``text``: one or a list; pictures may also stand in the messages' parts.
        style: of prompts that are read back.
        continued: a last message of the assistant is a beginning to go on with (True) or a whole answer (False);
            None leaves it as the messages have it, a whole answer, which only training takes.

    Raises:
        UsageError: not exactly one picture for each conversation, or unknown parts.
    """
    text = given.get("text")
    if (messages is None) == (text is None):
        raise UsageError("give text or messages, and not both")
    if messages is not None:
        chats = [_of_messages(conversation, continued) for conversation in conversations(messages)]
    else:
        chats = [_of_text(item, style) for item in ([text] if isinstance(text, str) else text or [])]
    if not chats:
        raise UsageError("no conversation was given")
    sources = _sources(given.get("images"), given.get("videos"))
    own = [list(_own_sources(chat.messages)) for chat in chats]
    if sources and any(own):
        raise UsageError("pictures stand in the messages and beside them: give each once")
    if sources and len(sources) != len(chats):
        raise UsageError(f"{len(sources)} pictures for {len(chats)} conversations: give one for each")
    held = [[source] for source in sources] if sources else own
    for found in held:
        if len(found) != 1:
            raise UsageError(f"a conversation with {len(found)} pictures or videos: it is about one face, give one")
    return [chat._replace(source=found[0]) for chat, found in zip(chats, held, strict=True)]


def _of_messages(messages: Sequence[Message], continued: bool | None) -> Chat:
    last = bool(messages) and messages[-1]["role"] == "assistant"
    if continued and not last:
        raise UsageError("only an assistant's message can be continued; the last one is the user's")
    if continued:
        return Chat(messages[:-1], None, started=plain_text(messages[-1]["content"]))
    return Chat(messages, None, answered=last and continued is not None)


def _of_text(text: str, style: PromptStyle) -> Chat:
    """A prompt that was written here, or any other text as a question."""
    found = [_read_back(text, mark, style) for mark in MARKS.values()]
    turns = next((turns for turns in found if turns is not None), None)
    if turns is None:
        for mark in MARKS.values():
            text = text.replace(mark, "")
        return Chat(_by_turns([text.strip()]), None)
    if turns[-1].endswith(style.after_assistant):
        return Chat(_by_turns([*turns[:-1], turns[-1].removesuffix(style.after_assistant)]), None, answered=True)
    return Chat(_by_turns(turns[:-1]), None, started=turns[-1])


def _by_turns(texts: Sequence[str]) -> list[Message]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def _read_back(prompt: str, mark: str, style: PromptStyle) -> list[str] | None:
    """Question, answer, question, ... of a written prompt, its last answer with its end mark if it has one."""
    head = _head(mark, style)
    if not prompt.startswith(head):
        return None
    turns: list[str] = []
    for exchange in prompt.removeprefix(head).split(style.after_assistant + style.before_user):
        question, between, answer = exchange.partition(style.after_user + style.before_assistant)
        if not between:
            return None
        turns += [question, answer]
    return turns


def _head(mark: str, style: PromptStyle) -> str:
    return style.begin + style.before_all + style.before_user + mark + style.after_visual


def written(messages: Sequence[Message], style: PromptStyle, continued: bool) -> str:
    """A conversation as a prompt with a mark for the face, up to where the answer starts or goes on.

    ``continued`` leaves the last answer open.
    """
    texts = [plain_text(message["content"]) for message in messages]
    kinds = {part["type"] for message in messages for part in _parts(message)}
    prompt = _head(MARKS["video" if "video" in kinds else "image"], style)
    for i, text in enumerate(texts):
        if i % 2:
            prompt += text + ("" if continued and i == len(texts) - 1 else style.after_assistant)
        else:
            prompt += (style.before_user if i else "") + text + style.after_user + style.before_assistant
    return prompt


def _parts(message: Message) -> Iterator[Mapping[str, Any]]:
    """Parts of a message that are no text, OpenAI's form of pictures among them."""
    content = message["content"]
    for part in [] if isinstance(content, str) else content:
        kind = part.get("type")
        if kind == "image_url":
            holder = part["image_url"]
            yield {"type": "image", "url": holder["url"] if isinstance(holder, Mapping) else holder}
        elif kind in MARKS:
            yield part
        elif kind != "text":
            raise UsageError(f"a part of type {kind!r}: this model reads text, image and video")


def _own_sources(messages: Sequence[Message]) -> Iterator[Any]:
    """What the parts hold; a part that holds nothing only marks a place."""
    for message in messages:
        for part in _parts(message):
            held = [(key, part[key]) for key in _HOLDERS[part["type"]] if part.get(key) is not None]
            yield from (_fetched(value, encoded=key == "base64") for key, value in held[:1])


def _sources(images: Any, videos: Any) -> list[Any]:
    """Pictures or videos that stand beside texts, one for each."""
    if images is not None and videos is not None:
        raise UsageError("images and videos in one batch: one time axis serves it, give one of them")
    found = _listed(images, nested=True) if videos is None else _listed(videos, nested=False)
    return [_fetched(item) for item in found]


def _listed(given: Any, nested: bool) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        return [given]
    if nested:
        return [one for item in given for one in (item if isinstance(item, list | tuple) else [item])]
    # a list of single frames is one video, a list of anything else several
    frames = bool(given) and all(_is_picture(item) for item in given)
    return [list(given)] if frames else list(given)


def _is_picture(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray) and item.ndim == 3)


def _fetched(source: Any, encoded: bool = False) -> Any:
    """Addresses and base64 as pictures and bytes; all else as it is."""
    if not isinstance(source, str):
        return source
    if source.startswith(("http://", "https://")):
        return load_image(source)
    if source.startswith("data:"):
        source, encoded = source.partition(",")[2], True
    if not encoded:
        return source
    try:
        return base64.b64decode(source, validate=True)
    except binascii.Error as error:
        raise UsageError(f"a picture is no base64: {error}") from error
