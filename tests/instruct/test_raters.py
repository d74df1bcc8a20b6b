"""Raters: what a model's answer must hold, what its marks lead to, and the marks that rules give, computed by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from build_world import annotate, is_rating, make_faces, recipe_text
from fault_server import FaultServer, text_of
from synthetic_clip import SHARP, make_clip, make_sample

from facellava.errors import BudgetExceeded
from facellava.instruct.annotate import EvidenceAnnotator
from facellava.instruct.executor import LocalEngine
from facellava.instruct.output import write
from facellava.instruct.pipeline import Build
from facellava.instruct.prompts import rating_prompt
from facellava.instruct.rate import LlmRater, RulesRater, read_marks
from facellava.instruct.recipe import load_recipe
from facellava.instruct.records import Annotation, Rating, Rejected
from facellava.instruct.services import Services
from facellava.llm import Budget, CallCache, ChatReply, Client, ProviderConfig, connect
from facellava.types import FaceClip, Sample

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MARKS = {"label_accuracy": 9, "description_media": 8, "description_label": 10, "overall": 7}
HAPPY = make_sample("expression", "happiness")
SAYS = Annotation("The displayed expression is happiness. The lip corners are pulled up.", "evidence")


def answer(reason: str | None = "clear", **marks: object) -> str:
    given = {name: value for name, value in {**MARKS, **marks}.items() if value is not None}
    return json.dumps({"ratings": given, **({} if reason is None else {"reason": reason})})


def reply(text: str, finish: str = "stop") -> ChatReply:
    return ChatReply(text, "m", 10, 5, finish)


def client(server: FaultServer, folder: Path, **options: object) -> Client:
    config = ProviderConfig("openai", server.url, first_wait=0.02, max_retries=1, **options)  # type: ignore[arg-type]
    return connect(config, CallCache(folder / "calls"), Budget())


# --- a model's marks ---


def test_four_marks_and_the_reason_are_read() -> None:
    assert read_marks(reply(answer(" a \n face "))) == ([9, 8, 10, 7], "a face")
    assert read_marks(reply(answer(overall="10", label_accuracy=" 1 "))) == ([1, 8, 10, 10], "clear")
    assert read_marks(reply("```json\n" + answer() + "\n``` {so be it}"))[0] == [9, 8, 10, 7]
    assert read_marks(reply(answer(extra=3)))[0] == [9, 8, 10, 7]
    assert read_marks(reply(answer(None)))[1] == ""


@pytest.mark.parametrize("mark", [0, 11, -1, 6.5, "6.5", 7.0, True, "good", "8/10", [8], {}, "", "९", "1" * 5000])
def test_marks_are_whole_numbers_from_1_to_10(mark: object) -> None:
    with pytest.raises(Rejected, match=r"overall is .*, not a whole number from 1 to 10") as caught:
        read_marks(reply(answer(overall=mark)))
    assert caught.value.code == "invalid_answer"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (answer(overall=None), "'ratings' must hold label_accuracy, description_media"),
        (json.dumps({"ratings": [9, 8, 10, 7]}), "'ratings' must hold"),
        (json.dumps(MARKS), "'ratings' must hold"),
        (answer()[:-9], "broken JSON"),
        ("Nine out of ten.", "no JSON object in 'Nine out of ten.'"),
        ('{"a":' * 20_000, "broken JSON"),
        ('{"ratings": {"overall": ' + "1" * 5000 + "}}", "broken JSON"),
        (answer("\ud83d"), "half a character"),
    ],
)
def test_other_answers_are_refused(text: str, says: str) -> None:
    with pytest.raises(Rejected, match=re.escape(says)) as caught:
        read_marks(reply(text))
    assert caught.value.code == "invalid_answer"


def test_a_refusal_is_a_refusal() -> None:
    with pytest.raises(Rejected, match="refused to answer") as caught:
        read_marks(reply("", "refused"))
    assert caught.value.code == "refused"


def test_rating_by_a_service_keeps_what_it_was_asked_and_cost(tmp_path: Path) -> None:
    with FaultServer(lambda _: answer("a plain smile")) as server:
        got = LlmRater(client(server, tmp_path), "rater-1").rate(HAPPY, make_clip(), SAYS)
    prompt, text = rating_prompt(HAPPY, SAYS.description, frames=1)
    assert (got.label_accuracy, got.description_media, got.description_label, got.overall) == (9, 8, 10, 7)
    assert (got.reason, got.rater, got.model, got.prompt) == ("a plain smile", "127.0.0.1", "rater-1", prompt.hash)
    # the server counts characters as tokens
    assert (got.attempts, got.input_tokens, got.output_tokens) == (1, len(text), len(answer("a plain smile")))


def test_a_bad_mark_is_asked_again_with_what_was_wrong(tmp_path: Path) -> None:
    asked: list[str] = []

    def moody(body: dict) -> str:
        asked.append(text_of(body))
        return answer(overall=6.5) if len(asked) == 1 else answer(overall=7)

    with FaultServer(moody) as server:
        got = LlmRater(client(server, tmp_path), "rater-1").rate(HAPPY, make_clip(), SAYS)
    assert (got.overall, got.attempts) == (7, 2)
    problem = "overall is 6.5, not a whole number from 1 to 10"
    assert asked[1] == f"{asked[0]}\n\nAnswer 1 could not be used: {problem}. Answer again."
    assert got.input_tokens == len(asked[0]) + len(asked[1])


def test_bad_marks_end_after_the_last_attempt(tmp_path: Path) -> None:
    with FaultServer(lambda _: answer(overall=6.5)) as server:
        with pytest.raises(Rejected, match=r"not a whole number .* \(asked 2 times\)") as caught:
            LlmRater(client(server, tmp_path), "rater-1", attempts=2).rate(HAPPY, make_clip(), SAYS)
        assert len(server.served) == 2
    assert caught.value.code == "invalid_answer"


def test_a_dead_service_rejects_and_a_spent_budget_ends(tmp_path: Path) -> None:
    with FaultServer(lambda _: answer(), lambda _seen, _body: "503") as server:
        with pytest.raises(Rejected) as caught:
            LlmRater(client(server, tmp_path), "rater-1").rate(HAPPY, make_clip(), SAYS)
        assert caught.value.code == "provider_failed"
        poor = connect(ProviderConfig("openai", server.url), CallCache(tmp_path / "calls"), Budget(tokens=10))
        with pytest.raises(BudgetExceeded):
            LlmRater(poor, "rater-1").rate(HAPPY, make_clip(), SAYS)


def test_raters_see_eight_frames_of_a_video(tmp_path: Path) -> None:
    bodies: list[dict] = []

    def look(body: dict) -> str:
        bodies.append(body)
        return answer()

    sample = dataclasses.replace(HAPPY, kind="video")
    with FaultServer(look) as server:
        rater = LlmRater(client(server, tmp_path), "rater-1")
        for frames in (24, 5):
            rater.rate(sample, make_clip(frames), SAYS)
    shown = [sum(part["type"] == "image_url" for part in body["messages"][-1]["content"]) for body in bodies]
    assert shown == [8, 5]
    assert "You see 8 frames of a video" in text_of(bodies[0]) and "You see 5 frames" in text_of(bodies[1])


def test_what_changes_the_marks_changes_the_fingerprint(tmp_path: Path) -> None:
    with FaultServer(lambda _: answer()) as server:
        one = client(server, tmp_path)
        prints = [
            LlmRater(one, "rater-1").fingerprint,
            LlmRater(one, "rater-2").fingerprint,
            LlmRater(one, "rater-1", attempts=1).fingerprint,
            RulesRater().fingerprint,
        ]
    assert len(set(prints)) == 4
    assert RulesRater().fingerprint == prints[-1]


# --- the filter ---


def test_six_and_less_is_removed_with_the_reason(tmp_path: Path) -> None:
    """6 goes, 7 stays, and 6.5 is no mark: it is asked again and never rounded."""
    make_faces(tmp_path / "faces", images=9, videos=0)
    marks = {"expression": 6, "age": 7, "authenticity": 6.5}

    def act(body: dict) -> str:
        text = text_of(body)
        if not is_rating(text):
            return annotate(text)
        (mark,) = [mark for name, mark in marks.items() if f"\nRecorded {name}:" in text]
        return answer(f"overall {mark}", label_accuracy=1, description_media=1, description_label=1, overall=mark)

    with FaultServer(act) as server:
        text = recipe_text(tmp_path / "faces", server.url, attempts=2)
        text = text.replace("[[sources]]", '[[sources]]\ntasks = ["expression", "age", "deepfake"]')
        (tmp_path / "recipe.toml").write_text(text.replace("per_task = 3", "per_task = 0"))
        recipe = load_recipe(str(tmp_path / "recipe.toml"))
        result = Build(recipe, tmp_path / "out", LocalEngine(1), Services(recipe, tmp_path / "out")).run()
        write(result, recipe, tmp_path / "out")
    assert {row.sample.task for row in result.rows} == {"age"}
    assert all(row.rating and row.rating.overall == 7 and row.rating.reason == "overall 7" for row in result.rows)
    assert all(row.rating and row.rating.label_accuracy == 1 for row in result.rows), "only the overall mark filters"
    ledger = [r for r in result.rejected if r.stage != "preprocess"]
    reasons = {(r.task, r.stage, r.code, r.message) for r in ledger}
    assert reasons == {
        ("expression", "filter", "overall_rating", "overall rating 6 of 10 is at or below 6: overall 6"),
        ("deepfake", "rate", "invalid_answer", "overall is 6.5, not a whole number from 1 to 10 (asked 2 times)"),
    }
    assert len(ledger) == 2 * len(result.rows) > 0


# --- rules ---


def by_rules(sample: Sample, clip: FaceClip, description: str) -> Rating:
    return RulesRater().rate(sample, clip, Annotation(description, "evidence"))


UNITS = ("AU1", "AU2", "AU12", "AU25", "AU26", "AU43")
SMILES = "The displayed expression is happiness. "
CASES: dict[str, tuple[Sample, FaceClip, str, tuple[int, int, int, int], str]] = {
    "all agrees": (
        HAPPY,
        make_clip(smile=0.8),
        SMILES + "The lip corners are pulled up.",
        (9, 9, 10, 9),
        "label, words and measured movement agree",
    ),
    "nothing measurable is said": (
        make_sample("age", 34),
        make_clip(),
        "34 years old. The skin looks rather smooth.",
        (9, 9, 10, 9),
        "label, words and measured movement agree",
    ),
    # a smile of 0.01 is below the 0.06 at which it counts as absent: 9 - 3
    "no smile in happiness": (
        HAPPY,
        make_clip(smile=0.01),
        SMILES + "The cheeks are raised.",
        (6, 9, 10, 6),
        "against the label: the raised lip corners, absent (0.01)",
    ),
    "a faint smile is not held against it": (
        HAPPY,
        make_clip(smile=0.2),
        SMILES + "The cheeks are raised.",
        (9, 9, 10, 9),
        "label, words and measured movement agree",
    ),
    "a smile in anger": (
        make_sample("expression", "anger"),
        make_clip(smile=0.7),
        "The displayed expression is anger. The brows are lowered.",
        (6, 9, 10, 6),
        "against the label: the raised lip corners, shown (0.70)",
    ),
    # AU12, AU25 and AU26 are all absent: 9 - 9, and 1 is the least; two of them are claimed: 9 - 6
    "three units absent, two claimed": (
        make_sample("action_units", ("AU12", "AU25", "AU26"), known=UNITS),
        make_clip(smile=0.0),
        "AU12, AU25 and AU26 are active. The lip corners are pulled up and the lips are parted.",
        (1, 3, 10, 1),
        "against the label: the raised lip corners, absent (0.00); against the label: the parted lips, absent (0.00); "
        "against the label: the dropped jaw, absent (0.00); said, but measured as absent: the raised lip corners; "
        "said, but measured as absent: the parted lips",
    ),
    "an unlabelled unit may move": (
        make_sample("action_units", ("AU25",), known=UNITS),
        make_clip(smile=0.9, mouth_open=0.5),
        "AU25 is active.",
        (9, 9, 10, 9),
        "label, words and measured movement agree",
    ),
    "an attribute that is measured as absent": (
        make_sample("attributes", ("Smiling", "Young")),
        make_clip(),
        "The face shows: Smiling, Young.",
        (6, 9, 10, 6),
        "against the label: the raised lip corners, absent (0.00)",
    ),
    "another label": (
        make_sample("expression", "fear"),
        make_clip(),
        "The displayed expression is sadness.",
        (9, 9, 2, 2),
        "the description speaks for 'sadness'",
    ),
    "no label": (
        make_sample("expression", "fear"),
        make_clip(),
        "The hair is long.",
        (9, 9, 4, 4),
        "the description names no label",
    ),
    "a leak": (
        make_sample("age", 34),
        make_clip(),
        "34 years old. The given label fits.",
        (9, 9, 3, 3),
        "the description says 'The given label'",
    ),
    "unlabelled": (
        make_sample("expression", None),
        make_clip(),
        "The displayed expression is fear.",
        (9, 9, 8, 8),
        "no label to compare with",
    ),
    "small": (
        HAPPY,
        make_clip(smile=0.8, quality=dataclasses.replace(SHARP, size=40.0)),
        SMILES,
        (9, 9, 10, 8),
        "the face is 40 pixels wide",
    ),
    # 10 - 5 - 4 - 3 is below 1
    "tiny, blurred and turned away": (
        HAPPY,
        make_clip(smile=0.8, quality=dataclasses.replace(SHARP, size=20.0, blur=3.0, yaw=-75.0)),
        SMILES,
        (9, 9, 10, 1),
        "the face is 20 pixels wide; the face is not sharp; the face is turned by 75 degrees",
    ),
    "soft": (
        HAPPY,
        make_clip(smile=0.8, quality=dataclasses.replace(SHARP, blur=12.0)),
        SMILES,
        (9, 9, 10, 9),
        "the face is not sharp",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_marks_by_rules(name: str) -> None:
    sample, clip, description, marks, reason = CASES[name]
    got = by_rules(sample, clip, description)
    assert (got.label_accuracy, got.description_media, got.description_label, got.overall) == marks
    assert (got.reason, got.rater, got.model, got.attempts) == (reason, "rules", "", 1)


def test_rules_look_at_the_moment_at_which_the_label_shows() -> None:
    video = dataclasses.replace(HAPPY, kind="video")
    late = make_clip(20, smile=[0.0] * 14 + [0.8] * 6)
    assert by_rules(video, late, SMILES).label_accuracy == 9
    assert by_rules(video, make_clip(20, smile=0.0), SMILES).label_accuracy == 6


SAME: dict[str, Callable[[], Sample]] = {
    "expression": lambda: HAPPY,
    "action_units": lambda: make_sample("action_units", ("AU12",), known=UNITS),
    "attributes": lambda: make_sample("attributes", ("Smiling", "Young")),
    "age": lambda: make_sample("age", 52),
    "deepfake": lambda: make_sample("deepfake", "fake"),
}


@pytest.mark.parametrize("task", SAME)
def test_words_from_evidence_never_contradict_it(task: str) -> None:
    clip = make_clip(smile=0.8)
    for seed in range(30):
        annotation = EvidenceAnnotator(seed).annotate(SAME[task](), clip)
        got = RulesRater().rate(SAME[task](), clip, annotation)
        assert (got.description_media, got.description_label, got.overall) == (9, 10, 9), annotation.description
