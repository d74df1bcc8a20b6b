"""Models of ours as a model of lmms-eval: ``--model facellava --model_args pretrained=default``.

Needs lmms-eval; imported by it alone (see ``lmms_eval_plugin``).
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]

from facellava.errors import FacellavaError, UsageError, WeightsUnavailable
from facellava.evaluation.harness.answerer import MAX_TOKENS, Answerer

logger = logging.getLogger(__name__)


@contextmanager
def unanswered(key: object) -> Iterator[None]:
    """Goes on after an error of one sample, such as a picture without a face, and says so."""
    try:
        yield
    except (UsageError, WeightsUnavailable):
        raise  # of the task or the installation
    except FacellavaError as error:
        logger.warning("%s: %s", key, error)


class FacellavaModel(lmms):
    """One face at a time, greedily.

    Args:
        pretrained: ``default`` or the folder of a trained model. threads: of the CPU, 0 for the default number.
        batch_size, max_batch_size, device: given by the harness; the model chooses for itself.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "default",
        threads: int = 0,
        batch_size: Any = 1,
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.answerer = Answerer(str(pretrained), int(threads))

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answers in the order of the requests. What cannot be answered, such as a picture without a face, gets ""."""
        texts = []
        for request in requests:
            context, options, to_visual, doc_id, task, split = request.args
            until = options.get("until") or ()
            text = self._guarded(
                context,
                to_visual(self.task_dict[task][split][doc_id]),
                max_new_tokens=int(options.get("max_new_tokens", MAX_TOKENS)),
                stop=[until] if isinstance(until, str) else until,
                key=(task, split, doc_id),
            )
            self.cache_hook.add_partial("generate_until", (context, options), text)
            texts.append(text)
        return texts

    def _guarded(self, question: str, visuals: list[Any], **options: Any) -> str:
        with unanswered(options["key"]):
            return self.answerer.answer(visuals, question, **options)
        return ""

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """(loss, whether it is the likeliest) of each choice among the choices of its question.

        As with the harness's own models it is the negative log-probability, since multiple choice takes the smallest.
        Where no face is seen all choices are equally likely, and none is the likeliest.

        Raises:
            NotImplementedError: a single continuation, without others to compare it with.
        """
        groups: dict[Any, list[int]] = defaultdict(list)
        for n, request in enumerate(requests):
            context, _, _, doc_id, task, split = request.args
            groups[task, split, doc_id, context].append(n)
        found: dict[int, tuple[float, bool]] = {}
        for (task, split, doc_id, context), members in groups.items():
            if len(members) < 2:
                raise NotImplementedError(
                    f"{task}: models of ours score answers against each other only; use a multiple_choice task"
                )
            doc = self.task_dict[task][split][doc_id]
            given: list[Any] = [requests[n].args[1] for n in members]
            choices = [str(choice(doc) if callable(choice) else choice) for choice in given]
            visuals = requests[members[0]].args[2](doc)
            losses = [math.log(len(choices))] * len(choices)
            with unanswered((task, split, doc_id)):
                losses = self.answerer.losses(visuals, context, choices, key=(task, split, doc_id))
            best = min(losses) if min(losses) < max(losses) else None  # all alike: nothing was seen
            found |= {n: (loss, loss == best) for n, loss in zip(members, losses, strict=True)}
        return [found[n] for n in range(len(requests))]

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not offered: each of our answers is about one face, without earlier turns' pictures."""
        raise NotImplementedError("models of ours answer single questions; choose a task of type generate_until")
