"""An OpenAI-compatible server around one :class:`facellava.Analyzer`: chat, analysis, scores (docs/server.md).

A request goes through ``guard`` (who asks, how much, how long), a route of ``app`` (``chat``, ``analysis``,
``scores``), ``media`` (pictures and videos out of a request) and ``work`` (the bounded queue in front of the one thread
that runs the model). ``faces`` remembers, in memory and for a while, what the model has read. Needs extra ``serve``.
"""

from facellava.server.settings import Bounds, ServerSettings

__all__ = ["Bounds", "ServerSettings"]
