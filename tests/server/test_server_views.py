"""What the page is drawn from: landmarks, a video's timeline, and the trace of an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from server_world import (
    QUESTION,
    Running,
    chat,
    data_url,
    error_of,
    picture,
    picture_url,
    serving,
    tiny_analyzer,
    two_faces,
    video,
)

from facellava.analyzer import Analyzer
from facellava.model.regions import REGION_NAMES
from facellava.runtime.decoder import BLOCKED, log_softmax
from facellava.server.timeline import episodes

ANSWER = "a smile, perhaps"


def why(running: Running, answer: str = ANSWER, **fields: object) -> dict:
    messages = [*chat(QUESTION)["messages"], {"role": "assistant", "content": answer}]
    response = running.http.post("/v1/why", json={"messages": messages, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_landmarks_are_the_analyzers(usual: Running, model: Analyzer) -> None:
    found = usual.http.post("/v1/landmarks", json={"media": data_url(two_faces())}).json()
    expected = model.analyze(two_faces(), tasks=["age"], explain=False)
    assert (found["kind"], found["width"], found["height"]) == ("image", 420, 260)
    assert [face["id"] for face in found["faces"]] == [0, 1]
    for face, other in zip(found["faces"], expected.faces, strict=True):
        assert other.landmarks is not None
        np.testing.assert_allclose(face["landmarks"], other.landmarks, atol=0.051)
        np.testing.assert_allclose(face["box"], other.box, atol=0.051)
        assert face["track"] == []
    assert found["regions"]["lips"] == [48, 60]


def test_landmarks_through_a_video(usual: Running, model: Analyzer) -> None:
    found = usual.http.post("/v1/landmarks", json={"media": data_url(video())}).json()
    clip = model.clips(video())[1][0]
    (face,) = found["faces"]
    assert found["kind"] == "video"
    np.testing.assert_allclose([place["time"] for place in face["track"]], clip.times, atol=1e-3)
    np.testing.assert_allclose([place["box"] for place in face["track"]], clip.boxes, atol=0.051)


def test_a_timeline_is_the_head_frame_by_frame(usual: Running, model: Analyzer) -> None:
    found = usual.http.post("/v1/timeline", json={"media": data_url(video(5))}).json()
    clip = model.clips(video(5))[1][0]
    assert len(found["times"]) == 5
    for n in (0, 4):
        alone = {
            name: getattr(clip, name)[n : n + 1] for name in ("frames", "landmarks", "blendshapes", "boxes", "times")
        }
        head = model.engine.look(replace(clip, **alone)).head
        np.testing.assert_allclose([curve[n] for curve in found["expression"].values()], head["expression"], atol=1e-4)
        assert found["action_units"]["AU12"][n] == pytest.approx(head["AU12"][0], abs=1e-4)
    assert found["facellava"]["face"]["id"] == 0


def test_a_timeline_of_movements(usual: Running, model: Analyzer) -> None:
    found = usual.http.post("/v1/timeline", json={"media": data_url(video(3)), "mode": "movements"}).json()
    assert "expression" not in found and found["action_units"]
    with serving(model, mode="movements") as running:
        assert "expression" not in running.http.post("/v1/timeline", json={"media": data_url(video(3))}).json()
        messages = [*chat(QUESTION)["messages"], {"role": "assistant", "content": ANSWER}]
        response = running.http.post("/v1/why", json={"messages": messages})
        assert (response.status_code, error_of(response)["code"]) == (403, "movements_only")


def test_a_picture_has_no_timeline(usual: Running) -> None:
    response = usual.http.post("/v1/timeline", json={"media": picture_url()})
    assert (response.status_code, error_of(response)["code"]) == (400, "usage")


def test_episodes() -> None:
    track, times = np.array([0.9, 0.8, 0.1, 0.6, 0.2, 0.7, 0.9, 0.6, 0.1, 0.7, 0.8]), np.arange(11) / 10
    found = list(episodes(track, track >= 0.5, times))
    assert found == [
        {"onset": None, "apex": 0.0, "offset": 0.1, "peak": 0.9},
        {"onset": 0.5, "apex": 0.6, "offset": 0.7, "peak": 0.9},
        {"onset": 0.9, "apex": 1.0, "offset": None, "peak": 0.8},
    ]
    assert not list(episodes(track, track > 1, times))


def test_a_trace_is_the_engines_attention_to_patches_times_that_of_patches_to_regions(
    usual: Running, model: Analyzer
) -> None:
    found = why(usual)
    engine = model.engine
    seen = engine.look(model.clips(picture())[1][0])
    trace = engine.trace(seen, QUESTION, ANSWER)
    tokens = found["tokens"]
    assert "".join(token["text"] for token in tokens) == ANSWER
    assert found["grid"] == engine.grid
    np.testing.assert_allclose(list(found["regions"].values()), seen.region_attention, atol=1e-4)
    for n, token in enumerate(tokens):
        assert sum(token["attention"].values()) == pytest.approx(1, abs=1e-3)
        assert sum(token["regions"].values()) == pytest.approx(1, abs=1e-3)
        assert list(token["regions"]) == list(REGION_NAMES)
        shares = trace.patches[n] / trace.patches[n].sum()
        np.testing.assert_allclose(token["patches"], shares, atol=1e-4)
        expected = shares @ seen.patch_attention.reshape(-1, 9)
        np.testing.assert_allclose(list(token["regions"].values()), expected, atol=1e-4)
        assert sum(token["report"]) == pytest.approx(token["attention"]["report"], abs=1e-3)
    assert "\n".join(found["report"]) == seen.report


def test_probabilities_with_and_without_the_face(tmp_path: Path) -> None:
    """Token by token, each from a pass of its own, instead of all from one.

    In float, since in 8 bits a pass has scales of its own.
    """
    model = tiny_analyzer(tmp_path, "fp32")
    engine = model.engine
    seen = engine.look(model.clips(picture())[1][0])
    trace = engine.trace(seen, QUESTION, ANSWER)
    asked, answered = engine._question_ids(seen, QUESTION, []), engine.tokenize(ANSWER)
    hidden = np.flatnonzero(seen.ids == engine._placeholder)
    for n in (0, 3):
        embeds = engine._embed[[*asked, *answered[:n]]]
        bias = np.zeros((1, 1, len(embeds), seen.state.length + len(embeds)), np.float32)
        for found in (trace.likely, trace.blind):
            logits, _ = engine._decoder.run(seen.state, embeds, np.array([len(embeds) - 1]), None, bias)
            assert found[n] == pytest.approx(log_softmax(logits[0])[answered[n]], abs=1e-3)
            bias[..., hidden] = BLOCKED
    assert not np.allclose(trace.likely, trace.blind, atol=1e-3)


def test_later_answers_are_traced_with_what_was_said_before(usual: Running) -> None:
    first = chat(QUESTION)["messages"]
    later = [{"role": "assistant", "content": "a face"}, {"role": "user", "content": "And now?"}]
    messages = [*first, *later, {"role": "assistant", "content": ANSWER}]
    found = usual.http.post("/v1/why", json={"messages": messages}).json()
    assert found["tokens"][0]["attention"]["question"] != why(usual)["tokens"][0]["attention"]["question"]


@pytest.mark.parametrize(
    "last",
    [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "x" * 900},
    ],
)
def test_traces_that_make_no_sense(usual: Running, last: dict) -> None:
    response = usual.http.post("/v1/why", json={"messages": [*chat(QUESTION)["messages"], last]})
    assert (response.status_code, error_of(response)["code"]) == (400, "usage")
