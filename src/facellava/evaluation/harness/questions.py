"""What is asked about a sample, and its record before anybody answered."""

from __future__ import annotations

from facellava.evaluation.benchmark import Benchmark, Item
from facellava.evaluation.records import Record
from facellava.instruct.prompts import question_prompt
from facellava.tasks.task import fill_media


def question(benchmark: Benchmark, item: Item, frames: int) -> str:
    """The prompt for models that were not trained by us (appendix G.2)."""
    sample = item.sample
    return question_prompt(benchmark.task, "metric", benchmark.names_for(sample), sample.kind, frames)[1]


def own_question(benchmark: Benchmark, item: Item) -> str:
    """The question that models of ours were trained on."""
    return fill_media(benchmark.spec.questions[0], item.sample.kind)


def unanswered(benchmark: Benchmark, item: Item) -> Record:
    """The record of a sample without an answer: what is true of it and how it counts."""
    sample = item.sample
    return Record(
        id=sample.id,
        fold=item.fold,
        media=sample.kind,
        subject=sample.subject,
        truth=sample.label,
        known=sample.known,
        vote=benchmark.vote_of(sample),
    )
