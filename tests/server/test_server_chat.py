"""The official client against a real server: chat, streams, schemas, conversations, pictures and videos."""

from __future__ import annotations

import io
import json
import sys
from typing import Annotated

import numpy as np
import openai
import pytest
from PIL import Image
from pydantic import BaseModel, Field
from server_world import (
    QUESTION,
    Running,
    blank,
    chat,
    data_url,
    error_of,
    events,
    picture,
    picture_url,
    two_faces,
    video,
)

from facellava.analyzer import Analyzer


def user(*parts: dict, text: str = QUESTION) -> dict:
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def image(url: str = "") -> dict:
    return {"type": "image_url", "image_url": {"url": url or picture_url()}}


def test_an_answer_is_the_analyzers(usual: Running, model: Analyzer) -> None:
    answer = usual.openai.chat.completions.create(model=model.name, messages=[user(image())], max_tokens=12)
    expected = model.ask(picture(), QUESTION, max_new_tokens=12)
    choice = answer.choices[0]
    assert (answer.object, answer.model, choice.message.role) == ("chat.completion", model.name, "assistant")
    assert choice.message.content == expected
    assert choice.finish_reason in ("stop", "length")


def test_usage_counts_tokens(usual: Running, model: Analyzer) -> None:
    answer = usual.openai.chat.completions.create(model=model.name, messages=[user(image())], max_tokens=5)
    usage = answer.usage
    assert usage is not None
    seen = model.engine.look(model.clips(picture())[1][0])
    asked = len(model.engine.tokenize(QUESTION)) + len(model.engine.tokenize("<|im_end|>\n<|im_start|>assistant\n"))
    assert usage.prompt_tokens == seen.state.length + asked
    assert usage.completion_tokens == len(model.engine.tokenize(answer.choices[0].message.content or ""))
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert (answer.choices[0].finish_reason == "length") == (usage.completion_tokens == 5)


def test_a_stream_is_the_same_answer_in_order(usual: Running, model: Analyzer) -> None:
    client = usual.openai
    whole = client.chat.completions.create(model=model.name, messages=[user(image())], max_tokens=12)
    stream = client.chat.completions.create(
        model=model.name,
        messages=[user(image())],
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    *body, last = list(stream)
    assert body[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in body) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in body[:-1]] == [None] * (len(body) - 1)
    assert body[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in body)
    assert not last.choices
    assert last.usage is not None and whole.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens
    assert len({chunk.id for chunk in [*body, last]}) == 1


def test_a_stream_ends_with_done_and_without_usage_unless_asked(usual: Running) -> None:
    response = usual.ask(stream=True)
    found = events(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert found[-1] == "[DONE]"
    assert not any("usage" in json.loads(line) for line in found[:-1])


def test_several_turns_change_the_prompt(usual: Running, model: Analyzer) -> None:
    first = [user(image(), text="Who?")]
    later = [*first, {"role": "assistant", "content": "A face."}, {"role": "user", "content": QUESTION}]
    client = usual.openai
    answers = [client.chat.completions.create(model=model.name, messages=m, max_tokens=12) for m in (first, later)]
    seen = model.engine.look(model.clips(picture())[1][0])
    expected = model.engine.ask(seen, QUESTION, history=[("Who?", "A face.")], max_new_tokens=12)
    assert answers[1].choices[0].message.content == "".join(expected)
    assert answers[1].usage.prompt_tokens > answers[0].usage.prompt_tokens


def test_a_system_message_stands_before_the_question(usual: Running, model: Analyzer) -> None:
    messages = [{"role": "system", "content": "Be short."}, user(image())]
    answer = usual.openai.chat.completions.create(model=model.name, messages=messages, max_tokens=12)
    assert answer.choices[0].message.content == model.ask(picture(), f"Be short.\n{QUESTION}", max_new_tokens=12)


class Face(BaseModel):
    smiling: bool
    word: Annotated[str, Field(max_length=4)]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_under_a_schema_parses(usual: Running, model: Analyzer, stream: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"smiling": {"type": "boolean"}, "word": {"type": "string", "maxLength": 8}},
        "required": ["smiling", "word"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "face", "schema": schema, "strict": True}}
    options = {"model": model.name, "messages": [user(image())], "max_tokens": 40, "response_format": wanted}
    if stream:
        chunks = usual.openai.chat.completions.create(**options, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    else:
        text = usual.openai.chat.completions.create(**options).choices[0].message.content or ""
    assert set(json.loads(text)) == {"smiling", "word"}


def test_the_clients_own_parsing(usual: Running, model: Analyzer) -> None:
    answer = usual.openai.chat.completions.parse(
        model=model.name, messages=[user(image())], max_tokens=80, response_format=Face
    )
    assert isinstance(answer.choices[0].message.parsed, Face)


def test_a_json_object(usual: Running) -> None:
    response = usual.ask(response_format={"type": "json_object"}, max_tokens=20)
    assert isinstance(json.loads(response.json()["choices"][0]["message"]["content"]), dict)


def test_without_the_library_for_schemas(usual: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)  # as if it were not installed
    response = usual.ask(response_format={"type": "json_object"})
    assert (response.status_code, error_of(response)["code"]) == (501, "missing_extra")


def test_a_schema_that_cannot_be_used(usual: Running) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strange"}}}
    response = usual.ask(response_format=wanted)
    assert (response.status_code, error_of(response)["param"]) == (400, "response_format.json_schema")


def test_a_video(usual: Running, model: Analyzer) -> None:
    part = {"type": "video_url", "video_url": {"url": data_url(video(), "video/mp4")}}
    answer = usual.openai.chat.completions.create(model=model.name, messages=[user(part)], max_tokens=8)
    assert answer.choices[0].message.content == model.ask(video(), QUESTION, max_new_tokens=8)


def test_several_pictures_are_the_frames_of_a_video(usual: Running, model: Analyzer) -> None:
    answer = usual.openai.chat.completions.create(
        model=model.name, messages=[user(image(), image(), image())], max_tokens=8
    )
    frames = np.stack([np.asarray(Image.open(io.BytesIO(picture())))] * 3)
    assert answer.choices[0].message.content == model.ask(frames, QUESTION, max_new_tokens=8)
    response = usual.http.post(
        "/v1/chat/completions", json=chat() | {"messages": [user(image(), image(data_url(two_faces())))]}
    )
    assert (response.status_code, "differ in size" in error_of(response)["message"]) == (400, True)


def test_a_file_sent_before(usual: Running, model: Analyzer) -> None:
    client = usual.openai
    file = client.files.create(file=("../../etc/passwd", picture()), purpose="vision")
    assert (file.filename, file.bytes, file.status) == ("passwd", len(picture()), "processed")
    expected = model.ask(picture(), QUESTION, max_new_tokens=12)
    for part in (image(file.id), {"type": "file", "file": {"file_id": file.id}}):
        answer = client.chat.completions.create(model=model.name, messages=[user(part)], max_tokens=12)
        assert answer.choices[0].message.content == expected
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_the_largest_face_unless_another_is_named(usual: Running, model: Analyzer) -> None:
    message = user(image(data_url(two_faces())))
    create = usual.openai.chat.completions.create
    usual_one = create(model=model.name, messages=[message], max_tokens=3)
    small = create(model=model.name, messages=[message], max_tokens=3, extra_body={"face": 0})
    facts = [answer.model_extra["facellava"] for answer in (usual_one, small)]
    assert [fact["face"]["id"] for fact in facts] == [1, 0]
    assert facts[0]["faces"] == 2
    with pytest.raises(openai.BadRequestError, match="no face 7"):
        create(model=model.name, messages=[message], extra_body={"face": 7})


def test_sampling_is_seeded(usual: Running) -> None:
    def text(**fields: object) -> str:
        return usual.ask(max_tokens=20, **fields).json()["choices"][0]["message"]["content"]

    assert text(temperature=2, seed=5) == text(temperature=2, seed=5)
    assert len({text(temperature=2) for _ in range(4)}) > 1
    assert text(temperature=2, seed=5, top_p=0.01) == text() == text(temperature=0) == text(temperature=1e-9)


def test_stop_texts_end_an_answer(usual: Running) -> None:
    text = usual.ask(max_tokens=20).json()["choices"][0]["message"]["content"]
    choice = usual.ask(max_tokens=20, stop=[text[3:5], "nothing"]).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text[: text.index(text[3:5])], "stop")
    streamed = events(usual.ask(max_tokens=20, stop=text[3:5], stream=True))
    pieces = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in streamed[:-1]]
    assert "".join(pieces) == choice["message"]["content"]


def test_one_picture_is_read_once(usual: Running) -> None:
    usual.service.faces.forget(everything=True)
    before = usual.measure("facellava_faces_total", cache="miss")
    answers = [usual.ask(f"Number {n}?").json() for n in range(3)]
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers]
    assert cached[0] == 0
    assert cached[1] == cached[2] > 100
    assert usual.measure("facellava_faces_total", cache="miss") == before + 1
    assert usual.measure("facellava_cache_bytes") > 0


REFUSED = {
    "nobody asks": ({"messages": []}, 400, "usage"),
    "no picture": ({"messages": [{"role": "user", "content": "Hello"}]}, 400, "no_media"),
    "no text": ({"messages": [{"role": "user", "content": [image]}]}, 400, "usage"),
    "ends with an answer": ({"messages": [user, {"role": "assistant", "content": "x"}]}, 400, "usage"),
    "starts with an answer": ({"messages": [{"role": "assistant", "content": "x"}, user]}, 400, "usage"),
    "unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, 400, "usage"),
    "unknown field": ({"fce": 1}, 400, "usage"),
    "another model": ({"model": "gpt-4o"}, 404, "model_not_found"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "unsupported"),
    "two answers": ({"n": 2}, 400, "unsupported"),
    "too hot": ({"temperature": 3}, 400, "usage"),
    "too long": ({"max_tokens": 100_000}, 400, "too_many_tokens"),
    "too long by its newer name": ({"max_completion_tokens": 100_000}, 400, "too_many_tokens"),
    "no such face": ({"face": 9}, 400, "usage"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(usual: Running, case: str) -> None:
    changes, status, code = REFUSED[case]
    made = json.loads(json.dumps(changes, default=lambda make: make()))
    response = usual.ask(**made)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_what_asks_for_nothing_is_let_pass(usual: Running) -> None:
    harmless = {"n": 1, "tools": [], "logprobs": False, "user": "x", "metadata": {"a": "b"}, "presence_penalty": 0}
    assert usual.ask(**harmless, frequency_penalty=0.0, store=False, logit_bias=None).status_code == 200


def test_a_second_medium_is_refused(usual: Running) -> None:
    messages = [user(image()), {"role": "assistant", "content": "x"}, user(image(data_url(two_faces())))]
    response = usual.http.post("/v1/chat/completions", json=chat() | {"messages": messages})
    assert (response.status_code, error_of(response)["code"]) == (400, "several_media")
    again = [user(image()), {"role": "assistant", "content": "x"}, user(image())]
    assert usual.http.post("/v1/chat/completions", json=chat() | {"messages": again}).status_code == 200


def test_a_conversation_longer_than_the_context(usual: Running) -> None:
    response = usual.ask("word " * 200)
    assert response.status_code == 400
    assert "tokens" in error_of(response)["message"]


def test_errors_reach_the_client_as_its_own(usual: Running, model: Analyzer) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        usual.openai.chat.completions.create(model=model.name, messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "no_media"
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        usual.openai.chat.completions.create(model=model.name, messages=[user(image(data_url(blank())))])
    assert caught.value.code == "no_face"
