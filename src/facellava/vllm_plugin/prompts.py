"""The prompts that the model was trained on, by way of a chat template and one string.

Our conversations are tokenised piece by piece (``model.prompt``); vLLM renders a template and tokenises the whole text.
So the template puts a mark between pieces: a special token cuts the text there, and the marks leave the ids again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from string import Template

from facellava.errors import UsageError
from facellava.model.config import FaceLlavaConfig
from facellava.model.prompt import PromptStyle

__all__ = ["FACE", "FACE_ID", "PIECE", "chat_template", "face_id", "visual_ids", "without_pieces"]

FACE, PIECE = "<|face|>", "<|piece|>"
"""Added to the served tokenizer: the place of the visual tokens, and the seam between two pieces."""
FACE_ID = "face_token_id"
"""Where config.json of a served folder holds the id of ``FACE``."""

_TEMPLATE = Template("""\
{%- set faces = namespace(found=0) -%}
{%- for message in messages -%}
{%- if message['role'] != ('assistant' if loop.index0 % 2 else 'user') -%}
{{ raise_exception('messages alternate user and assistant, user first; there is no system message') }}
{%- endif -%}
{%- if message['content'] is not string -%}
{%- for part in message['content'] -%}
{%- if part['type'] != 'text' -%}{%- set faces.found = faces.found + 1 -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if faces.found != 1 -%}
{{ raise_exception('the first message holds one picture or video of a face, and no other message holds any') }}
{%- endif -%}
{%- if loop.first -%}{{ $begin }}{{ $piece }}{{ $opening }}{{ $face }}{{ $after_visual }}{{ $seam }}
{%- elif message['role'] == 'user' -%}{{ $before_user }}{{ $seam }}
{%- endif -%}
{%- if message['content'] is string -%}{{ message['content'] | replace($face, '') | replace($piece, '') }}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{ '' if loop.first else '\\n' }}{{ part['text'] | replace($face, '') | replace($piece, '') }}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'user' -%}{{ $seam }}{{ $after_user }}{{ $seam }}{{ $before_assistant }}{{ $piece }}
{%- else -%}{{ $piece }}{{ $after_assistant }}{{ $piece }}
{%- endif -%}
{%- endfor -%}
""")


def chat_template(style: PromptStyle) -> str:
    """A Jinja template that writes conversations in a style, for parts of type ``image``, ``video`` and ``text``."""
    strings = {
        "begin": style.begin,
        "opening": style.before_all + style.before_user,
        "before_user": style.before_user,
        "after_user": style.after_user,
        "before_assistant": style.before_assistant,
        "after_assistant": style.after_assistant,
        "after_visual": style.after_visual,
        "face": FACE,
        "piece": PIECE,
        "seam": "" if style.whole else PIECE,
    }
    return _TEMPLATE.substitute({name: json.dumps(text) for name, text in strings.items()})


def face_id(config: FaceLlavaConfig) -> int:
    """The id of ``FACE``.

    Raises:
        UsageError: the folder was not prepared.
    """
    found = getattr(config, FACE_ID, None)
    if not isinstance(found, int):
        raise UsageError("this folder is not prepared for vLLM: python -m facellava.vllm_plugin FOLDER TARGET")
    return found


def without_pieces(ids: Sequence[int], piece: int) -> list[int]:
    """Ids without the seams."""
    return [i for i in ids if i != piece]


def visual_ids(
    tokenize: Callable[[str], list[int]], config: FaceLlavaConfig, style: PromptStyle, frames: int, face: int
) -> list[int]:
    """What a prompt has where one picture or video is: ``face`` for each visual token, and what is between frames.

    Args:
        frames: that the model looks at. face: the id of ``FACE``.
    """
    blocks = config.visual_blocks(frames)
    run = [face] * (config.num_visual_tokens(frames) // blocks)
    between = tokenize(style.between_frames) if style.between_frames else []
    return run + (between + run) * (blocks - 1)
