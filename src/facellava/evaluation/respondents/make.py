"""From a configuration to somebody who answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from facellava.evaluation.benchmark import Benchmark, training_labels
from facellava.evaluation.respondents.base import Respondent, RespondentConfig
from facellava.llm import Budget


@dataclass(frozen=True)
class Access:
    """What a respondent may use.

    Attributes:
        calls: folder in which paid answers are kept. allowed: hosts that faces may be sent to. budget: of all calls.
        typed, text: what models of ours give. threads: of models that run here.
    """

    calls: Path
    allowed: Collection[str] = ()
    budget: Budget | None = None
    typed: bool = True
    text: bool = True
    threads: int = 1


def connect_respondent(config: RespondentConfig, benchmark: Benchmark, access: Access) -> Respondent:
    """Somebody who answers; models are loaded and services connected here.

    Raises:
        FacellavaError: weights, a file, a key, an address, an extra or the user's consent is missing.
    """
    if config.kind == "own":
        from facellava.evaluation.respondents.own import OwnRespondent

        return OwnRespondent(config, typed=access.typed, text=access.text, threads=access.threads)
    if config.is_service:
        from facellava.evaluation.respondents.service import ServiceRespondent

        return ServiceRespondent(config, access.calls, access.allowed, access.budget)
    if config.kind == "transformers":
        from facellava.evaluation.respondents.hub import HubRespondent

        return HubRespondent(config, threads=access.threads)
    from facellava.evaluation.respondents.others import ExpertRespondent, RecordedRespondent, TrivialRespondent

    if config.kind == "answers":
        return RecordedRespondent(config)
    if config.kind == "expert":
        return ExpertRespondent(config)
    assert config.kind == "trivial"
    folds = range(1, benchmark.folds + 1) or (0,)
    return TrivialRespondent(config, {fold: training_labels(benchmark, fold) for fold in folds}, benchmark.name)
