"""Annotators: which answers of a model pass, words from evidence that read back to the label, and recorded words."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fault_server import FaultServer, text_of
from synthetic_clip import make_clip, make_sample

from facellava import tasks
from facellava.errors import BudgetExceeded, FileMissing, SourceLayout
from facellava.instruct import sources
from facellava.instruct.annotate import (
    Annotator,
    EvidenceAnnotator,
    ExpertAnnotator,
    LlmAnnotator,
    RecordedAnnotator,
    says,
)
from facellava.instruct.leaks import find_disclaimer, find_inner_state, find_leak
from facellava.instruct.prompts import annotation_prompt
from facellava.instruct.recipe import load_recipe
from facellava.instruct.records import Rejected
from facellava.llm import Budget, CallCache, ChatReply, Client, ProviderConfig, connect
from facellava.types import FaceClip, LabelValue, MediaKind, Sample

CLIP = make_clip()
UNITS = ("AU1", "AU2", "AU4", "AU6", "AU12", "AU25", "AU26", "AU43")
SAMPLES = {
    "expression": make_sample("expression", "happiness"),
    "action_units": make_sample("action_units", ("AU6", "AU12"), known=UNITS),
    "attributes": make_sample("attributes", ("Bags_Under_Eyes", "Smiling")),
    "age": make_sample("age", 34),
    "deepfake": make_sample("deepfake", "fake"),
}
GOOD = {
    "expression": "The lip corners are pulled up and the cheeks rise, a plain sign of happiness.",
    "action_units": "AU6 is seen in the raised cheeks, and AU12 pulls the lip corners up.",
    "attributes": "A Smiling face with Bags_Under_Eyes looks straight ahead.",
    "age": "34 years old. Fine lines run from the outer corners of the eyes.",
    "deepfake": "Fake. The edge of the face does not fit the neck.",
}


def client(server: FaultServer, folder: Path) -> Client:
    config = ProviderConfig("openai", server.url, first_wait=0.02, max_retries=1)
    return connect(config, CallCache(folder / "calls"), Budget())


@pytest.fixture
def reader(tmp_path: Path) -> LlmAnnotator:
    """An annotator whose service is not asked."""
    return LlmAnnotator(connect(ProviderConfig("openai", "http://127.0.0.1:9/v1"), CallCache(tmp_path), Budget()), "m")


def answer(label: object, reason: object) -> str:
    return json.dumps({"label": label, "reason": reason})


def read(reader: LlmAnnotator, sample: Sample, label: object, reason: object) -> str:
    return reader.read(ChatReply(answer(label, reason), "m", 1, 1), sample)


def refusal(reader: LlmAnnotator, sample: Sample, label: object, reason: object) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        read(reader, sample, label, reason)
    return caught.value.code, caught.value.message


# --- what a model says ---


@pytest.mark.parametrize("task", SAMPLES)
def test_good_answers_pass_as_they_are(reader: LlmAnnotator, task: str) -> None:
    sample = SAMPLES[task]
    assert read(reader, sample, sample.label, GOOD[task].replace(" ", "\n  ", 3)) == GOOD[task]


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("expression", " Happiness "),
        ("action_units", ["AU 12", "AU6", "AU6"]),
        ("attributes", ["Smiling", "Bags_Under_Eyes"]),
        ("age", "34"),
        ("age", "34 years old"),
        ("deepfake", "FAKE"),
    ],
)
def test_labels_may_be_spelled_a_little_differently(reader: LlmAnnotator, task: str, label: object) -> None:
    assert read(reader, SAMPLES[task], label, GOOD[task]) == GOOD[task]


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("expression", "happy"),
        ("expression", ["happiness"]),
        ("expression", None),
        ("action_units", "AU6, AU12"),
        ("action_units", ["AU6", "AU99"]),
        ("action_units", ["AU6", "AU20"]),  # not among those that were looked for
        ("attributes", ["Bags Under Eyes!"]),
        ("age", "middle-aged"),
        ("age", 34.5),
        ("age", 300),
        ("deepfake", "yes"),
    ],
)
def test_what_is_no_label_is_refused(reader: LlmAnnotator, task: str, label: object) -> None:
    code, message = refusal(reader, SAMPLES[task], label, GOOD[task])
    assert code == "invalid_answer" and message == f"'label' is {label!r}, which is none of the task's labels"


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("expression", "sadness"),
        ("action_units", ["AU6"]),
        ("attributes", []),
        ("age", 35),
        ("deepfake", "real"),
    ],
)
def test_another_label_is_a_contradiction(reader: LlmAnnotator, task: str, label: object) -> None:
    code, message = refusal(reader, SAMPLES[task], label, GOOD[task])
    assert code == "contradicts_label" and message == f"'label' is {label!r}, not what was asked about"


@pytest.mark.parametrize(
    ("task", "reason", "says"),
    [
        ("expression", "The mouth turns down, which gives the face a sad look.", "states sadness, not happiness"),
        ("action_units", "AU6 is seen in the raised cheeks and nothing else.", "states AU6, not AU6, AU12"),
        ("action_units", "AU6, AU12 and also AU4 can be seen.", "states AU4, AU6, AU12, not AU6, AU12"),
        ("action_units", "The forehead is smooth and so is the chin.", "states none, not AU6, AU12"),
        ("attributes", "A Smiling face that looks straight ahead.", "states Smiling, not Bags_Under_Eyes, Smiling"),
        ("attributes", "A smiling face with bags under the eyes.", "states none, not Bags_Under_Eyes, Smiling"),
        (
            "attributes",
            "Smiling, with Bags_Under_Eyes and a Big_Nose.",
            "states Bags_Under_Eyes, Big_Nose, Smiling, not",
        ),
        ("age", "Around 34 years old. Fine lines run from the eyes.", "does not begin with 34"),
        ("age", "345 days, or 34 years old, judging by the skin.", "does not begin with 34"),
        ("deepfake", "The face is fake, as its edge does not fit the neck.", "does not begin with fake"),
        ("deepfake", "Real. Nothing in the face points to editing.", "does not begin with fake"),
    ],
)
def test_reasons_must_state_the_label(reader: LlmAnnotator, task: str, reason: str, says: str) -> None:
    code, message = refusal(reader, SAMPLES[task], SAMPLES[task].label, reason)
    assert code == "contradicts_label" and says in message


def test_an_explanation_that_names_no_expression_gets_a_beginning(reader: LlmAnnotator) -> None:
    reason = "The lip corners are pulled up and the cheeks rise."
    text = read(reader, SAMPLES["expression"], "happiness", reason)
    assert text == f"The displayed expression is happiness. {reason}"


@pytest.mark.parametrize(
    ("reason", "code", "says"),
    [
        ("As stated, happiness shows in the raised lip corners.", "label_leak", "'As stated'"),
        ("The given label is happiness, seen in the lip corners.", "label_leak", "'The given label'"),
        ("According to the dataset this is happiness, in the lips.", "label_leak", "'According to the dataset'"),
        ("As an AI I see happiness in the raised lip corners.", "refused", "'As an AI'"),
        ("I can’t be sure, but happiness shows in the lip corners.", "refused", "'I can’t'"),
        ("Happiness shows. It's important to note that this is a guess.", "refused", "'note that'"),
        ("The woman feels happiness, so the lip corners are raised.", "inner_state", "'woman feels'"),
        ("Happiness, pure and plain.", "invalid_answer", "the reason has 4 words, fewer than 5"),
        ("happiness " * 300, "invalid_answer", "the reason is longer than 2500 characters"),
        (["happiness"], "invalid_answer", "lacks 'label' or 'reason'"),
        (None, "invalid_answer", "lacks 'label' or 'reason'"),
    ],
)
def test_words_that_have_no_place(reader: LlmAnnotator, reason: object, code: str, says: str) -> None:
    got, message = refusal(reader, SAMPLES["expression"], "happiness", reason)
    assert got == code and says in message


def test_without_the_label_any_label_of_the_task_passes(reader: LlmAnnotator) -> None:
    reader.use_labels = False
    assert read(reader, SAMPLES["expression"], "fear", "The wide eyes and raised brows give a look of fear.")
    sad = "The mouth gives the face a sad look."
    assert refusal(reader, SAMPLES["expression"], "fear", sad)[0] == "contradicts_label"
    unlabelled = make_sample("age", None)
    reader.use_labels = True
    assert read(reader, unlabelled, 50, "50 years old. The hair has thinned out.").startswith("50 years old.")
    rest = "The face is at rest and no action unit is active."
    assert read(reader, make_sample("action_units", None, known=UNITS), [], rest) == rest


# --- asking ---


def asked_of(server: FaultServer, answers: list[str]) -> list[dict]:
    """Makes the server give the answers in turn (one by one, as one thread asks); the bodies it saw."""
    bodies: list[dict] = []

    def act(body: dict) -> str:
        bodies.append(body)
        return answers[len(bodies) - 1]

    server.answer = act
    return bodies


def test_refused_answers_are_asked_again_with_the_reason(tmp_path: Path) -> None:
    answers = [
        "no",
        answer("happiness", "The given label is happiness, seen in the lips."),
        answer("happiness", GOOD["expression"]),
    ]
    with FaultServer(lambda _: "") as server:
        bodies = asked_of(server, answers)
        got = LlmAnnotator(client(server, tmp_path), "annotator-1").annotate(SAMPLES["expression"], CLIP)
    prompt, text = annotation_prompt(SAMPLES["expression"], use_label=True, frames=1)
    texts = [text_of(body) for body in bodies]
    assert texts == [
        text,
        f"{text}\n\nAnswer 1 could not be used: no JSON object in 'no'. Answer again.",
        f"{text}\n\nAnswer 2 could not be used: it tells that the label was known: 'The given label'. Answer again.",
    ]
    assert (got.description, got.attempts, got.prompt) == (GOOD["expression"], 3, prompt.hash)
    assert (got.annotator, got.model) == ("127.0.0.1", "annotator-1")
    # the server counts characters as tokens
    assert (got.input_tokens, got.output_tokens) == (sum(map(len, texts)), sum(map(len, answers)))


def test_the_last_reason_ends_in_the_ledger_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    leak = answer("happiness", "The given label is happiness, seen in the lips.")
    with FaultServer(lambda _: leak) as server:
        for _ in range(2):
            annotator = LlmAnnotator(client(server, tmp_path), "annotator-1", attempts=2)
            with pytest.raises(Rejected, match=r"'The given label' \(asked 2 times\)") as caught:
                annotator.annotate(SAMPLES["expression"], CLIP)
            assert caught.value.code == "label_leak"
        assert len(server.served) == 2, "refused answers come from the cache, too"


def test_a_service_that_refuses_or_dies(tmp_path: Path) -> None:
    with FaultServer(lambda _: "", lambda _seen, _body: "refusal") as server:
        with pytest.raises(Rejected, match="the service refused to answer") as caught:
            LlmAnnotator(client(server, tmp_path), "m", attempts=1).annotate(SAMPLES["age"], CLIP)
        assert caught.value.code == "refused"
        server.fault = lambda _seen, _body: "503"
        with pytest.raises(Rejected) as caught:
            LlmAnnotator(client(server, tmp_path), "n").annotate(SAMPLES["age"], CLIP)
        assert caught.value.code == "provider_failed"
        poor = connect(ProviderConfig("openai", server.url), CallCache(tmp_path / "none"), Budget(tokens=10))
        with pytest.raises(BudgetExceeded):
            LlmAnnotator(poor, "m").annotate(SAMPLES["age"], CLIP)


def test_eight_frames_in_order_are_shown(tmp_path: Path) -> None:
    sample = dataclasses.replace(SAMPLES["expression"], kind="video")
    with FaultServer(lambda _: "") as server:
        bodies = asked_of(server, [answer("happiness", GOOD["expression"])] * 2)
        annotator = LlmAnnotator(client(server, tmp_path), "annotator-1")
        for frames in (30, 3):
            annotator.annotate(sample, make_clip(frames))
    levels = [[int(level) for level in _levels(body)] for body in bodies]
    assert [len(row) for row in levels] == [8, 3]
    assert all(row == sorted(row) for row in levels)
    # frame n is a grey of 8 n: the first and the last are among them
    assert levels[0][0] <= 2 and levels[0][-1] >= 8 * 29 - 2
    assert "You see 8 frames of the video" in text_of(bodies[0]) and "You see 3 frames" in text_of(bodies[1])


def _levels(body: dict) -> list[float]:
    import io

    from PIL import Image

    urls = [part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
    assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))).mean() for url in urls]


def test_what_changes_the_words_changes_the_fingerprint(reader: LlmAnnotator) -> None:
    one = reader.client
    made: list[Annotator] = [
        LlmAnnotator(one, "m"),
        LlmAnnotator(one, "m-2"),
        LlmAnnotator(one, "m", use_labels=False),
        LlmAnnotator(one, "m", attempts=1),
        LlmAnnotator(one, "m", max_tokens=99),
        EvidenceAnnotator(0),
        EvidenceAnnotator(1),
        RecordedAnnotator(),
    ]
    assert len({annotator.fingerprint for annotator in made}) == len(made)
    assert LlmAnnotator(one, "m").fingerprint == made[0].fingerprint == reader.fingerprint


# --- from evidence ---


def random_label(task: str, rng: random.Random) -> Sample:
    """A sample with any label of the task, and any part of the labels known."""
    known = tasks.get(task)
    if known.number is not None:
        return make_sample(task, rng.randint(0, 100))
    if known.kind == "single":
        return make_sample(task, rng.choice(known.names))
    covered = known.sort(rng.sample(known.default_names, rng.randint(3, len(known.default_names))))
    return make_sample(task, tuple(name for name in covered if rng.random() < 0.3), known=covered)


def random_clip(rng: random.Random, kind: MediaKind) -> FaceClip:
    """Any movement, most of it from nothing to something or back."""
    frames = 20 if kind == "video" else 1
    measures = ("smile", "brow_lower", "eye_closed", "eye_wide", "frown", "lip_press", "jaw_open", "brow_raise")
    tracks = {name: np.linspace(rng.random(), rng.random(), frames).tolist() for name in measures}
    return make_clip(frames, **tracks)


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("task", SAMPLES)
def test_words_from_evidence_read_back_to_the_label(task: str, kind: MediaKind) -> None:
    rng, seen = random.Random(f"{task}-{kind}"), Counter()
    for number in range(120):
        sample = dataclasses.replace(random_label(task, rng), kind=kind, id=f"x/{number}")
        got = EvidenceAnnotator(3).annotate(sample, random_clip(rng, kind))
        assert says(tasks.get(task), got.description, sample.label), (sample.label, got.description)
        assert not (find_leak(got.description) or find_disclaimer(got.description) or find_inner_state(got.description))
        assert re.fullmatch(r"[^{}]+[.]", got.description) and "  " not in got.description, got.description
        assert len(got.description.split()) < 120 or task in ("attributes", "action_units")
        assert (got.annotator, got.model, got.prompt, got.input_tokens) == ("evidence", "", "", 0)
        seen[got.description] += 1
    assert len(seen) > 40


def test_a_video_tells_how_its_movement_develops() -> None:
    happy = make_sample("expression", "happiness", kind="video")
    clip = make_clip(30, smile=[0.0] * 10 + [0.8] * 20)
    texts = {EvidenceAnnotator(seed).annotate(happy, clip).description for seed in range(20)}
    assert all(re.search(r"1\.\d s|quieter", text) for text in texts), texts
    still = dataclasses.replace(happy, kind="image")
    assert not re.search(r"\d s\b", EvidenceAnnotator(0).annotate(still, make_clip(smile=0.8)).description)


def test_evidence_is_the_same_whenever_it_is_asked() -> None:
    clip = make_clip(20, smile=np.linspace(0, 0.9, 20).tolist())
    for sample in SAMPLES.values():
        assert EvidenceAnnotator(1).annotate(sample, clip) == EvidenceAnnotator(1).annotate(sample, clip)
    texts = {EvidenceAnnotator(seed).annotate(SAMPLES["expression"], clip).description for seed in range(20)}
    assert len(texts) > 5


def test_evidence_explains_labels_only() -> None:
    with pytest.raises(Rejected) as caught:
        EvidenceAnnotator().annotate(make_sample("expression", None), CLIP)
    assert caught.value.code == "no_label"


# --- recorded ---


def recording(folder: Path, *lines: object) -> Path:
    path = folder / "descriptions.jsonl"
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
    )
    return path


def test_recorded_words_are_found_by_id_and_by_medium(tmp_path: Path) -> None:
    file = recording(
        tmp_path,
        {"id": "x/7#2@expression", "description": "This very piece shows happiness."},
        {"id": "a@b.jpg", "descriptions": ["Raised lip corners show happiness.\u2028", "Another one."]},
    )
    annotator = RecordedAnnotator(file)
    exact = make_sample("expression", "happiness", name="7#2@expression")
    assert annotator.annotate(exact, CLIP).description == "This very piece shows happiness."
    for name in ("a@b.jpg", "a@b.jpg@expression", "a@b.jpg#3@expression"):
        found = annotator.annotate(make_sample("expression", "happiness", name=name), CLIP)
        assert (found.description, found.annotator) == ("Raised lip corners show happiness.", "recorded")
    with pytest.raises(Rejected) as caught:
        annotator.annotate(make_sample("expression", "happiness", name="b.jpg"), CLIP)
    assert caught.value.code == "no_description"


@pytest.mark.parametrize(
    ("task", "label", "text", "stated"),
    [
        ("expression", "happiness", "A wide grin.", "A wide grin."),
        ("expression", "anger", "The brows are low.", "The displayed expression is anger. The brows are low."),
        ("age", 50, "Freckled skin and a bare crown.", "50 years old. Freckled skin and a bare crown."),
        ("age", 1, "Round cheeks.", "1 year old. Round cheeks."),
        ("deepfake", "fake", "The skin is smooth.", "Fake. The skin is smooth."),
        ("action_units", ("AU12",), "The mouth curves.", "AU12 (lip corner puller) is active. The mouth curves."),
        ("attributes", ("Bald",), "A bare crown.", "The face shows: Bald. A bare crown."),
    ],
)
def test_recorded_words_get_the_beginning_of_the_task(task: str, label: LabelValue, text: str, stated: str) -> None:
    got = RecordedAnnotator().annotate(make_sample(task, label, description=text), CLIP)
    assert got.description == stated
    assert says(tasks.get(task), got.description, label)


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        (make_sample("expression", "anger", description="A wide grin."), "contradicts_label"),
        (make_sample("expression", "anger", description="The given label is anger."), "label_leak"),
        (make_sample("expression", "anger", description="I cannot see a face."), "refused"),
        (make_sample("expression", "anger", description="The man feels angry."), "inner_state"),
        (make_sample("action_units", ("AU12",), description="AU12 and AU4 are active."), "contradicts_label"),
        (make_sample("attributes", ("Bald",), description="Smiling and Bald."), "contradicts_label"),
        (make_sample("expression", "anger", description="  "), "no_description"),
        (make_sample("expression", "anger"), "no_description"),
    ],
)
def test_recorded_words_that_are_refused(sample: Sample, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        RecordedAnnotator().annotate(sample, CLIP)
    assert caught.value.code == code


def test_recordings_of_another_form_say_where(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"gone\.jsonl is missing"):
        RecordedAnnotator(tmp_path / "gone.jsonl")
    for line in ("{", "[]", {"description": "x"}, {"id": 1, "descriptions": []}, {"id": 1}):
        with pytest.raises(SourceLayout, match=r"descriptions\.jsonl, line 2: expected an? (?:JSON )?object"):
            RecordedAnnotator(recording(tmp_path, {"id": 0, "description": "x"}, line))
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": 0, "description": "\xe9"}\n')
    with pytest.raises(SourceLayout, match=r"latin\.jsonl: expected UTF-8 text; byte 26 is none"):
        RecordedAnnotator(tmp_path / "latin.jsonl")
    (tmp_path / "marked.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 0, "description": "x"}\n\n')
    assert RecordedAnnotator(tmp_path / "marked.jsonl").descriptions == {"0": "x"}


def test_recordings_of_the_open_faces(shared_dir: Path) -> None:
    """The descriptions of real annotators become answers of every task, from the file and from the source's rows."""
    faces = shared_dir / "faces"
    recipe = load_recipe("open-faces", dict.fromkeys(("congress", "sfhq", "renders", "clips"), faces))
    by_file, by_row = RecordedAnnotator(faces / "annotations.jsonl"), RecordedAnnotator()
    refused, passed = Counter(), Counter()
    for config in recipe.sources[:2]:
        for sample in list(sources.get("folder").read(faces, "test", **config.options))[::3]:
            try:
                got = by_file.annotate(sample, CLIP)
            except Rejected as rejected:
                refused[sample.task, rejected.code] += 1
                continue
            assert got == by_row.annotate(sample, CLIP)
            assert says(tasks.get(sample.task), got.description, sample.label)
            passed[sample.task] += 1
    assert passed.keys() == {"expression", "action_units", "attributes", "age"}
    total = passed.total() + refused.total()
    assert total > 700 and refused.total() < 0.02 * total, refused


def test_experts_say_what_they_see_whatever_the_label() -> None:
    """The annotator of Table 12's rows without labels: the same face, the same words."""
    from default_model import astronaut, require_weights
    from facellava import weights
    from facellava.face import FaceFrontEnd, read_media

    require_weights()
    (clip,) = FaceFrontEnd(weights.resolve, margin=0.6).clips(read_media(astronaut()))
    annotator = ExpertAnnotator()
    told = [
        annotator.annotate(make_sample("expression", label), clip).description for label in ("happiness", "anger", None)
    ]
    assert told[0] == told[1] == told[2]
    assert tasks.get("expression").parse(told[0]).label == "happiness"
    aged = annotator.annotate(make_sample("age", 80), clip)
    years = tasks.get("age").parse(aged.description).years
    assert years is not None and 20 < years < 60
    assert aged.annotator == "experts"
    with pytest.raises(Rejected, match="say nothing about deepfake"):
        annotator.annotate(make_sample("deepfake", "real"), clip)
