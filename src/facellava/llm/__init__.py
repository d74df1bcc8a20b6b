"""Clients of language model services: annotators, raters, judges and baselines share one protocol."""

from .budget import NO_PRICES, Budget, Estimate, Prices, estimate
from .cache import CallCache
from .chat import Attachment, ChatClient, ChatReply, ChatRequest
from .connect import Client, ProviderConfig, connect, provider_config, require_consent

__all__ = [
    "NO_PRICES",
    "Attachment",
    "Budget",
    "CallCache",
    "ChatClient",
    "ChatReply",
    "ChatRequest",
    "Client",
    "Estimate",
    "Prices",
    "ProviderConfig",
    "connect",
    "estimate",
    "provider_config",
    "require_consent",
]
