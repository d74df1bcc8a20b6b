"""The five face tasks as data: labels, questions, answer forms, and how an answer is read back.

One folder per task (``task.toml``, ``questions.txt``); adding a folder adds a task.
"""

from .parse import Outcome, Parsed, count_outcomes, parse_lines, split_sentences, strip_negations
from .task import REGIONS, Answer, Closed, Label, Number, Task, all_tasks, get

__all__ = [
    "REGIONS",
    "Answer",
    "Closed",
    "Label",
    "Number",
    "Outcome",
    "Parsed",
    "Task",
    "all_tasks",
    "count_outcomes",
    "get",
    "parse_lines",
    "split_sentences",
    "strip_negations",
]
