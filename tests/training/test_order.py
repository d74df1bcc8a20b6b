"""The order of training: nothing lost, nothing twice, and the same steps for any number of processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")

from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st

from facellava.training.order import Facts, Lengths, StepSampler, steps
from facellava.training.recipe import StageConfig


def facts(count: int, seed: int = 0, groups: int = 5) -> Facts:
    rng = np.random.default_rng(seed)
    return Facts(
        rng.integers(20, 400, count),
        rng.choice([1, 8], count, p=[0.7, 0.3]),
        np.sort(rng.integers(0, groups, count)),
        [("a", "b")[n % 2] for n in range(count)],
    )


def stage(batch: int = 8, **more: int) -> StageConfig:
    return StageConfig("x", ("frlp",), 1.0, batch=batch, micro_batch=1, **more)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.sampled_from([1, 2, 8]), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_every_pass_sees_every_conversation_once(
    count: int, batch: int, epochs: int, by_group: bool, seed: int
) -> None:
    found = steps(facts(count, seed), stage(batch, epochs=epochs), seed=seed, window=4, by_group=by_group)
    seen = Counter((ref.index, ref.epoch) for step in found for ref in step if not ref.filler)
    assert seen == Counter({(i, e): 1 for i in range(count) for e in range(epochs)})
    assert all(len(step) == batch for step in found)


def test_a_step_holds_one_kind_and_similar_lengths() -> None:
    data = facts(1000)
    found = steps(data, stage(8), seed=0, window=16, by_group=False)
    spread = []
    for step in found:
        refs = [ref.index for ref in step]
        assert len(set(data.frames[refs])) == 1
        spread.append(np.ptp(data.lengths[refs]))
    assert np.mean(spread) < 60 < np.ptp(data.lengths), "sorted within windows"
    first = [data.lengths[step[0].index] for step in found]
    assert np.abs(np.corrcoef(first, range(len(first)))[0, 1]) < 0.3, "but not through the whole pass"


def test_neighbours_on_disk_stay_together() -> None:
    data = facts(4000, groups=40)
    found = steps(data, stage(8), seed=0, window=4)
    assert max(len(set(data.groups[[r.index for s in found[k : k + 20] for r in s]])) for k in range(0, 400, 20)) <= 13
    order = [data.groups[step[0].index] for step in found]
    assert np.corrcoef(order, range(len(order)))[0, 1] < 0.5, "groups come in random order"


def test_seeds_and_resumes() -> None:
    data = facts(200)
    assert steps(data, stage(), seed=3) == steps(data, stage(), seed=3) != steps(data, stage(), seed=4)
    sampler = StepSampler(steps(data, stage(), seed=3), 2)
    assert list(SkipBatchSampler(sampler, 5)) == list(sampler)[5:]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_the_same_steps(processes: int) -> None:
    found = steps(facts(100), stage(8), seed=0)
    sampler = StepSampler(found, 2)
    shards = [list(BatchSamplerShard(sampler, processes, rank)) for rank in range(processes)]
    accumulation = 8 // (2 * processes)
    for number, step in enumerate(found):
        parts = [
            ref
            for shard in shards
            for micro in shard[number * accumulation : (number + 1) * accumulation]
            for ref in micro
        ]
        assert sorted(parts) == sorted(step)


def test_conversations_and_shares() -> None:
    data = facts(100)
    found = steps(data, stage(8, conversations=250), seed=0)
    assert sum(not ref.filler for step in found for ref in step) in range(250, 258)
    half = steps(data, stage(4, epochs=40), seed=0, shares={"b": 0.25})
    seen = Counter(data.sources[ref.index] for step in half for ref in step if not ref.filler)
    assert seen["a"] == 2000 and 380 < seen["b"] < 620


def test_a_short_stage_counts_the_tokens_of_few() -> None:
    data = facts(10_000)
    lengths = Lengths(10_000, lambda i: int(data.lengths[i]))
    found = steps(data._replace(lengths=lengths), stage(4, conversations=64), seed=0, window=4, by_group=False)
    assert found == steps(data, stage(4, conversations=64), seed=0, window=4, by_group=False)
    assert 64 <= len(lengths.known) <= 128


def test_what_is_longer_than_the_context_is_in_no_step() -> None:
    data = facts(200)
    found = steps(data, stage(4, context=300), seed=0)
    seen = Counter(ref.index for step in found for ref in step if not ref.filler)
    assert seen == Counter({i: 1 for i in range(200) if data.lengths[i] <= 300})
    assert steps(data, stage(4, context=10, conversations=8), seed=0) == []


def test_a_pass_that_draws_nothing_by_chance_is_not_the_last() -> None:
    data = facts(4)
    found = steps(data, stage(2, conversations=6), seed=0, shares={"a": 0.05, "b": 0})
    assert sum(not ref.filler for step in found for ref in step) >= 6
    assert steps(data, stage(2, conversations=6), seed=0, shares={"a": 0, "b": 0}) == []
