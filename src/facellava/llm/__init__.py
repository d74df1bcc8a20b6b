"""Clients of language model services: annotators, raters, judges and baselines share one protocol."""

from .chat import Attachment, ChatClient, ChatReply, ChatRequest

__all__ = ["Attachment", "ChatClient", "ChatReply", "ChatRequest"]
