"""A cap on tokens and money that concurrent calls cannot overshoot, and the estimate before the first call."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from facellava.errors import BudgetExceeded

from .chat import ChatReply, ChatRequest

NO_PRICES = "a cap on money needs prices: give --price-input and --price-output, or put them into the preset"
CHARACTERS_PER_TOKEN = 3.0
"""English text has about four; less is on the safe side."""
TOKENS_PER_PICTURE = 800
"""Of a 256 x 256 picture. Most services count less; where one counts more, the budget learns it from the answers."""
TOKENS_PER_VIDEO = 3000
"""Of a clip of ten seconds, which a service looks at once a second."""


def expected_input(request: ChatRequest) -> int:
    """Tokens that a request will at most be charged for, estimated."""
    text = len(request.system) + len(request.text)
    videos = sum(a.media_type.startswith("video/") for a in request.attachments)
    media = TOKENS_PER_VIDEO * videos + TOKENS_PER_PICTURE * (len(request.attachments) - videos)
    return round(text / CHARACTERS_PER_TOKEN) + media


@dataclass(frozen=True)
class Prices:
    """Money per million tokens, in whatever unit the cap has. Prices change, so none are built in."""

    input: float = 0.0
    output: float = 0.0

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class Held:
    """What is set aside for a call: tokens and money, and the input tokens expected before anything was learnt."""

    tokens: int
    money: float
    expected: int


class Budget:
    """Counts what this process spent and what is under way. Shared by threads and by several services.

    What a call costs is known only afterwards. The most it can cost is set aside before; where a service charges more
    for its input than expected, later calls set aside as much more.

    Args:
        tokens, money: caps; 0 for none.
    """

    def __init__(self, tokens: int = 0, money: float = 0.0) -> None:
        self.max_tokens, self.max_money = tokens, money
        self.tokens, self.money = 0, 0.0
        self._held_tokens, self._held_money = 0, 0.0
        self._factor = 1.0
        self._lock = threading.Lock()

    def reserve(self, request: ChatRequest, prices: Prices) -> Held:
        """Set aside the most that a call can cost.

        Raises:
            BudgetExceeded: it might go over a cap.
        """
        expected = expected_input(request)
        with self._lock:
            inputs = math.ceil(expected * self._factor)
            held = Held(inputs + request.max_tokens, prices.of(inputs, request.max_tokens), expected)
            for what, spent, more, cap in (
                ("tokens", self.tokens + self._held_tokens, held.tokens, self.max_tokens),
                ("money", self.money + self._held_money, held.money, self.max_money),
            ):
                if cap and spent + more > cap:
                    raise BudgetExceeded(
                        f"{spent:,.6g} of {cap:,.6g} {what} are spent or under way and the next call may take "
                        f"{more:,.6g}: raise the cap in [budget] and start again, what was paid for is kept"
                    )
            self._held_tokens += held.tokens
            self._held_money += held.money
        return held

    def settle(self, held: Held, reply: ChatReply | None, prices: Prices) -> None:
        """Put what was set aside back and count what the call cost; None for a call that failed."""
        with self._lock:
            self._held_tokens -= held.tokens
            self._held_money -= held.money
            if reply is not None:
                self.tokens += reply.input_tokens + reply.output_tokens
                self.money += prices.of(reply.input_tokens, reply.output_tokens)
                self._factor = max(self._factor, reply.input_tokens / max(1, held.expected))


@dataclass(frozen=True)
class Estimate:
    """What calls will cost: tokens, money in the unit of the prices, and hours at the rate limits (0 if none)."""

    calls: int
    input_tokens: int
    output_tokens: int
    money: float
    hours: float


def estimate(
    calls: int,
    request: ChatRequest,
    prices: Prices,
    *,
    answer_tokens: int = 150,
    requests_per_minute: float = 0.0,
    tokens_per_minute: float = 0.0,
) -> Estimate:
    """The cost of so many calls like ``request``, without retries.

    Args:
        answer_tokens: of one answer; a description of the paper's form has 100 to 200.
    """
    inputs, outputs = calls * expected_input(request), calls * answer_tokens
    minutes = [0.0]
    if requests_per_minute:
        minutes.append(calls / requests_per_minute)
    if tokens_per_minute:
        minutes.append((inputs + outputs) / tokens_per_minute)
    return Estimate(calls, inputs, outputs, prices.of(inputs, outputs), max(minutes) / 60)
