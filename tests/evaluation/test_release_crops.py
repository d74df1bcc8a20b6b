"""A checkpoint that is run as the official release runs it is tested on the release's crops."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_world import make_faces
from eval_world import benchmark

from facellava import weights
from facellava.errors import WeightsUnavailable
from facellava.evaluation.records import read_records
from facellava.evaluation.respondents import RespondentConfig
from facellava.evaluation.run import Options, evaluate
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.preprocess import NETWORKS


@pytest.mark.parametrize(("profile", "crop"), [("", "centred"), ("release", "corner")])
def test_an_evaluation_shows_the_crops_that_a_model_expects(profile: str, crop: str, tmp_path: Path) -> None:
    """Cut by the evaluation and read by the model, which refuses the other kind: that would be a failed record."""
    pytest.importorskip("torch")
    import layouts_world as world

    from facellava.evaluation.respondents.own import OwnRespondent
    from facellava.model.layouts import Options as Conversion
    from facellava.model.layouts import convert

    try:
        for name in NETWORKS:
            weights.resolve(name, offline=True)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face front end: run `facellava weights pull` first ({error})")
    make_faces(tmp_path / "faces", images=1, videos=0)
    changes = {"vision": world.VISION, "text": {"max_position_embeddings": 1024}}
    theirs = world.checkpoint(tmp_path / "theirs", "official", tokenizer=True)
    convert(theirs, tmp_path / "ours", Conversion(changes=changes, profile=profile))
    who = OwnRespondent(RespondentConfig("tiny", "own", model=str(tmp_path / "ours"), max_tokens=1), typed=False)
    evaluate(benchmark(tmp_path / "faces"), who, tmp_path / "runs", Options(workers=1, draws=10))
    records = [r for r in read_records(tmp_path / "runs" / "small_expression" / "tiny") if r.clip]
    assert records and all(record.status == "answered" for record in records)
    assert {ClipStore(tmp_path / "runs" / "clips").load(record.clip).crop for record in records} == {crop}
