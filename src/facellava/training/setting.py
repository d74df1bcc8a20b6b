"""Section 5.1: what training may see of a benchmark. A leak is refused before any work."""

from __future__ import annotations

from collections.abc import Iterable

from facellava.errors import LeakFound, UsageError
from facellava.training.recipe import SettingConfig
from facellava.training.talks import Corpus, Talk, keep_only


def enforce(corpus: Corpus, setting: SettingConfig) -> None:
    """Check the corpus against the setting; ``fine-tuned`` also keeps the benchmark's own training split only.

    Raises:
        LeakFound: zero-shot with data of the benchmark, under whatever name; fine-tuned with its test or another fold.
        UsageError: fine-tuned without data of the benchmark.
    """
    if setting.kind == "zero-shot":
        _refuse(corpus, setting)
    elif setting.kind == "fine-tuned":
        _keep_training_split(corpus, setting)


def names_of(talk: Talk) -> set[str]:
    """Every name that a conversation's source goes by."""
    return {talk.source, *talk.origins}


def _refuse(corpus: Corpus, setting: SettingConfig) -> None:
    meant = set(setting.sources)
    if leaks := [talk for talk in corpus.talks if names_of(talk) & meant]:
        names = sorted({talk.source for talk in leaks})
        raise LeakFound(
            f"zero-shot on {', '.join(setting.sources)}, but {len(leaks):,} conversations come from there "
            f"({leaks[0].id} is one): add data.exclude = {names}"
        )
    benchmark = [talk for talk in corpus.excluded if names_of(talk) & meant]
    if shared := shared_media(corpus.talks, benchmark):
        ours, theirs = shared[0]
        raise LeakFound(
            f"zero-shot on {', '.join(setting.sources)}, but {len(shared):,} conversations are about the same files "
            f"under another name ({ours} is {theirs}): exclude their sources too"
        )


def _keep_training_split(corpus: Corpus, setting: SettingConfig) -> None:
    meant = set(setting.sources)
    own = [talk for talk in corpus.talks if names_of(talk) & meant]
    if not own:
        raise UsageError(f"fine-tuned on {', '.join(setting.sources)}, but the data holds nothing of it")
    if tested := [talk for talk in own if talk.split == "test"]:
        raise LeakFound(
            f"fine-tuned on {', '.join(setting.sources)}, but {len(tested):,} conversations are of its test split "
            f"({tested[0].id} is one): build the data from its training split"
        )
    if setting.fold and (other := [talk for talk in own if talk.fold != setting.fold]):
        raise LeakFound(
            f"fine-tuned on fold {setting.fold}, but {len(other):,} conversations are of another "
            f"({other[0].id} of fold {other[0].fold or 'none'}): build the data with options = {{ fold = ... }}"
        )
    keep_only(corpus, "not of the benchmark", lambda talk: bool(names_of(talk) & meant))


def shared_media(talks: Iterable[Talk], others: Iterable[Talk]) -> list[tuple[str, str]]:
    """Pairs of ids whose media are the same file, whatever they are called."""
    known = {talk.digest: talk.id for talk in others if talk.digest}
    return [(talk.id, known[talk.digest]) for talk in talks if talk.digest in known]
