"""Anyone who can answer a question about a face: our models, services, transformers models, files, package experts."""

from .base import Ask, Prediction, Reply, Respondent, RespondentConfig, TakesBatches, read_config
from .make import connect_respondent

__all__ = [
    "Ask",
    "Prediction",
    "Reply",
    "Respondent",
    "RespondentConfig",
    "TakesBatches",
    "connect_respondent",
    "read_config",
]
