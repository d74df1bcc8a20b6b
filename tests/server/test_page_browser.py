"""The page as people use it: consent, a photo, several faces, questions, a video, errors, the keyboard, a phone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest
from page_world import Visit, chromium, moving, until, visiting
from PIL import Image
from server_world import KEY, Running, blank, data_url, decoder, picture, picture_url, serving, two_faces
from server_world import until as happened
from test_server_typed import schema

from facellava.analyzer import Analyzer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def running(model: Analyzer) -> Iterator[Running]:
    with serving(model, bounds={"answer": 16}) as found:
        yield found


@pytest.fixture(autouse=True)
def _talkative(model: Analyzer) -> None:
    """A model of random weights may have nothing to say."""
    decoder(model).never_ends = True


@pytest.fixture
def visit(browser: Any, running: Running) -> Iterator[Visit]:
    with visiting(browser, running) as found:
        yield found


def analysis(running: Running, data: bytes, **fields: Any) -> dict:
    body = {"media": data_url(data), "name": "me.png", "explain": False, **fields}
    return running.http.post("/v1/analyze", json=body).json()


def shown(page: Any, task: str) -> dict[str, float]:
    """The numbers of a card."""
    rows = page.locator(f'[data-task="{task}"] li[data-label]')
    found = rows.evaluate_all("rows => rows.map(r => [r.dataset.label, r.querySelector('[data-value]').dataset.value])")
    return {label: float(value) for label, value in found}


def said(page: Any) -> list[str]:
    return page.locator(".said").all_text_contents()


def test_nothing_is_sent_before_consent(visit: Visit) -> None:
    page = visit.open()
    visit.choose(picture(), "me.png", "image/png")
    assert "me.png has not been sent" in page.locator("#waiting").text_content()
    assert "the server on this machine" in page.locator(".consent").text_content()
    assert not visit.sent()
    page.check("#consent")
    page.wait_for_selector(".card")
    assert visit.sent()[0].url.endswith("/v1/files")


def test_the_camera_is_off_until_it_is_turned_on(visit: Visit) -> None:
    count = "navigator.mediaDevices.getUserMedia = (real => (...a) => { window.uses = (window.uses ?? 0) + 1;"
    visit.page.add_init_script(
        f"{count} return real.apply(navigator.mediaDevices, a); }})(navigator.mediaDevices.getUserMedia)"
    )
    page = visit.open()
    page.click("#camera")
    assert page.is_visible("#camera-ask") and page.evaluate("window.uses ?? 0") == 0
    page.keyboard.press("Escape")
    assert page.evaluate("window.uses ?? 0") == 0 and not page.is_visible("#camera-dialog")
    page.click("#camera")
    page.click("#camera-on")
    page.click("#camera-shot")
    until(page, "document.getElementById('waiting').textContent.includes('camera.jpg has not been sent')")
    assert page.evaluate("window.uses") == 1
    assert page.evaluate("document.getElementById('camera-view').srcObject") is None
    page.check("#consent")
    page.wait_for_selector("#problem:visible")  # the test camera shows no face
    assert "No face was found" in page.locator("#problem").text_content()


def test_a_photo(visit: Visit, running: Running) -> None:
    page = visit.photo()
    marks = running.http.post("/v1/landmarks", json={"media": picture_url()}).json()["faces"][0]
    boxes = page.locator("#marks rect")
    assert boxes.count() == 1
    x0, y0, x1, y1 = marks["box"]
    found = [float(boxes.get_attribute(name)) for name in ("x", "y", "width", "height")]
    np.testing.assert_allclose(found, [x0, y0, x1 - x0, y1 - y0], atol=1e-3)
    points = page.locator("#marks circle").evaluate_all(
        "all => all.map(c => [+c.getAttribute('cx'), +c.getAttribute('cy')])"
    )
    np.testing.assert_allclose(points, marks["landmarks"])
    tasks = analysis(running, picture())["faces"][0]["tasks"]
    assert shown(page, "expression") == tasks["expression"]["probabilities"]
    assert shown(page, "action_units") == tasks["action_units"]["probabilities"]
    assert shown(page, "deepfake") == tasks["deepfake"]["probabilities"]
    assert shown(page, "attributes").items() <= tasks["attributes"]["probabilities"].items()
    assert "Attractive" not in shown(page, "attributes")
    assert f"about {tasks['age']['years']}" in page.locator('[data-task="age"]').text_content()
    assert "likely {} to {}".format(*tasks["age"]["range"]) in page.locator('[data-task="age"]').text_content()


def test_an_answer_streams_and_is_followed_up(visit: Visit, running: Running, model: Analyzer) -> None:
    page = visit.photo()
    decoder(model).seconds = 0.2
    page.fill("#question", "What is it?")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.said')[1]?.textContent.length > 1")
    assert page.locator(".said").nth(1).get_attribute("aria-busy") == "true"
    assert page.is_visible("#stop")
    early = said(page)[1]
    until(page, "document.querySelectorAll('button.why').length === 2")
    decoder(model).seconds = 0.0
    body = json.loads([r for r in visit.sent() if r.url.endswith("completions")][-1].post_data)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == said(page)[0]
    again = running.http.post("/v1/chat/completions", json={**body, "stream": False}).json()
    assert said(page)[1] == again["choices"][0]["message"]["content"]
    assert said(page)[1].startswith(early) and len(early) < len(said(page)[1])


def test_an_answer_can_be_stopped(visit: Visit, model: Analyzer) -> None:
    decoder(model).seconds = 0.3
    page = visit.give(picture(), "me.png", "image/png")
    until(page, "document.querySelector('.said')?.textContent.length > 1")
    page.click("#stop")
    page.wait_for_selector("button.why")
    assert len(said(page)[0]) < 16 and page.is_visible("#send")
    assert page.is_hidden("#problem")


def test_why_these_words(visit: Visit) -> None:
    page = visit.photo()
    answer = said(page)[0]
    with page.expect_response("**/v1/why") as response:
        page.click("button.why")
    found = response.value.json()
    page.wait_for_selector(".token")
    assert "".join(page.locator(".token").all_text_contents()) == answer
    page.locator(".token").nth(1).hover()
    token = found["tokens"][1]
    rows = page.locator("#reading li[data-label]")
    values = rows.evaluate_all(
        "rows => rows.map(r => [r.dataset.label, +r.querySelector('[data-value]').dataset.value])"
    )
    assert dict(values) == token["attention"] | token["regions"]
    heat = "(() => { const c = document.getElementById('heat'); return [c.width, c.height, "
    heat += "[...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]; })()"
    width, height, data = page.evaluate(heat)
    alpha = np.array(data, np.float64).reshape(height, width, 4)[..., 3]
    x, y, side = (round(value * width / 256) for value in found["crop"])
    cells = np.array(token["patches"]).reshape(found["grid"], found["grid"])
    step = side / found["grid"]
    centres = [[alpha[int(y + (r + 0.5) * step), int(x + (c + 0.5) * step)] for c in range(7)] for r in range(7)]
    assert np.corrcoef(np.ravel(centres), cells.ravel())[0, 1] > 0.95
    assert alpha[: max(0, y - 4)].max(initial=0) == 0


def test_several_faces(visit: Visit, running: Running) -> None:
    page = visit.photo(two_faces())
    faces = analysis(running, two_faces())["faces"]
    assert page.locator("#marks rect").count() == page.locator("#faces input").count() == 2
    assert page.locator("#faces input").nth(1).is_checked()  # the larger one
    assert shown(page, "expression") == faces[1]["tasks"]["expression"]["probabilities"]
    page.locator("#faces input").nth(1).focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("button.why")
    assert shown(page, "expression") == faces[0]["tasks"]["expression"]["probabilities"]
    body = json.loads([r for r in visit.sent() if r.url.endswith("completions")][-1].post_data)
    assert body["face"] == 0
    page.locator('#marks rect[data-face="1"]').click()
    page.wait_for_selector("#marks .chosen rect[data-face='1']")
    assert page.locator("#faces input").nth(1).is_checked()


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"just some words, not a picture", "me.jpg", "neither a picture nor a video"),
        (b"", "me.jpg", "empty"),
        (blank(), "blank.png", "No face was found"),
        (picture()[:2000], "half.png", "damaged"),
    ],
)
def test_what_cannot_be_used_is_told_in_words(visit: Visit, data: bytes, name: str, words: str) -> None:
    page = visit.give(data, name, "image/jpeg")
    page.wait_for_selector("#problem:visible")
    assert words in page.locator("#problem").text_content()
    assert page.is_visible("#drop")
    page.set_input_files("#file", {"name": "me.png", "mimeType": "image/png", "buffer": picture()})
    page.wait_for_selector(".card")
    assert page.is_hidden("#problem")


def test_a_server_that_has_stopped(browser: Any, model: Analyzer) -> None:
    with serving(model, bounds={"answer": 16}) as running, visiting(browser, running) as visit:
        page = visit.photo()
        running.server.stop()
        page.wait_for_timeout(1500)
        page.fill("#question", "Still there?")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:visible")
        assert "does not answer" in page.locator("#problem").text_content()
        assert page.locator(".turn").count() == 1


def test_a_key_is_asked_for(browser: Any, model: Analyzer) -> None:
    with serving(model, api_key=KEY) as running, visiting(browser, running) as visit:
        page = visit.page
        page.goto(running.url)
        page.fill("#key", "not the key at all")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:visible")
        assert "not this server's API key" in page.locator("#problem").text_content()
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        assert page.is_hidden("#key-form") and page.is_hidden("#problem")


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.className")


def tab_to(page: Any, wanted: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted in focused(page).split():
            return
    raise AssertionError(f"the keyboard does not reach {wanted}")


def test_by_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    page.keyboard.press("Tab")
    assert focused(page) == "skip"
    tab_to(page, "consent")
    page.keyboard.press("Space")
    tab_to(page, "file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "me.png", "mimeType": "image/png", "buffer": picture()})
    page.wait_for_selector("button.why")
    tab_to(page, "why")
    page.keyboard.press("Enter")
    until(page, "document.activeElement.className.includes('token')")
    page.keyboard.press("ArrowRight")
    assert page.locator(".token").nth(1).evaluate("token => token === document.activeElement")
    tab_to(page, "lamp")
    page.wait_for_selector("#marks .region.lit", state="attached")
    lit = page.locator("#marks .region.lit").evaluate_all("all => all.map(region => region.dataset.region)")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert all(name.replace("_", " ") in label for name in lit)


def test_a_video(visit: Visit, running: Running) -> None:
    page = visit.give(moving(), "me.webm", "video/webm")
    page.wait_for_selector(".lane")
    found = running.http.post("/v1/timeline", json={"media": data_url(moving())}).json()
    labels = page.locator(".lane").evaluate_all("lanes => lanes.map(lane => lane.dataset.label)")
    assert {episode["label"] for episode in found["episodes"]} <= set(labels)
    for episode in found["episodes"]:
        for kind in ("onset", "apex", "offset"):
            marks = page.locator(f'.lane[data-label="{episode["label"]}"] .moment.{kind}')
            times = marks.evaluate_all("all => all.map(mark => +mark.dataset.time)")
            assert episode[kind] is None or episode[kind] in times
    plot = page.locator(".plot").first
    plot.click(position={"x": 1, "y": 10})
    until(page, "document.getElementById('video').currentTime < 0.05")
    marks = running.http.post("/v1/landmarks", json={"media": data_url(moving())}).json()["faces"][0]["track"]
    until(page, f"Math.abs(+document.querySelector('#marks rect').getAttribute('x') - {marks[0]['box'][0]}) < 0.1")
    plot.click(position={"x": plot.bounding_box()["width"] - 1, "y": 10})
    until(page, f"Math.abs(+document.querySelector('#marks rect').getAttribute('x') - {marks[-1]['box'][0]}) < 0.1")


def saved(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    with open(download.value.path(), "rb") as file:
        return download.value.suggested_filename, file.read()


def test_exports(visit: Visit, running: Running, model: Analyzer) -> None:
    page = visit.photo(two_faces())
    name, data = saved(page, "#export-json")
    result = json.loads(data)
    jsonschema.validate(result, schema())
    assert name == "me.facellava.json" and "does not know what a person feels" in result.pop("notice")
    expected = analysis(running, two_faces())
    del expected["seconds"]
    assert result == expected

    name, data = saved(page, "#export-csv")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
    theirs = model.analyze(two_faces(), explain=False).to_rows()
    assert [set(row) for row in rows] == [set(row) for row in theirs]
    for row, other in zip(rows, theirs, strict=True):
        for column, value in (other | {"media": "me.png"}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert float(row[column]) == value
            else:
                assert row[column] == ("" if value is None else str(value))


def test_a_picture_with_blurred_faces_is_blurred(visit: Visit, running: Running) -> None:
    page = visit.photo()
    page.uncheck("#show-points")
    name, sharp = saved(page, "#export-png")
    assert name == "me.facellava.png"
    page.check("#blur")
    _, blurred = saved(page, "#export-png")
    original = np.asarray(Image.open(io.BytesIO(picture())), np.float64)
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64) for data in (sharp, blurred))
    assert one.shape[1] == other.shape[1] == 256 and one.shape[0] > 256  # with the notice below
    x0, y0, x1, y1 = (
        round(value)
        for value in running.http.post("/v1/landmarks", json={"media": picture_url()}).json()["faces"][0]["box"]
    )
    inside = slice(y0 + 3, y1 - 3), slice(x0 + 3, x1 - 3)
    np.testing.assert_array_equal(one[inside], original[inside])
    np.testing.assert_array_equal(other[200:256], original[200:])  # the rest is as it was
    colours = [len(np.unique(pixels[inside].reshape(-1, 3), axis=0)) for pixels in (original, other)]
    assert colours[1] <= 36 < colours[0]
    assert np.abs(other[inside] - original[inside]).mean() > 5


def test_movements_only(visit: Visit, running: Running) -> None:
    page = visit.photo()
    page.check("#movements")
    page.wait_for_selector('[data-task="action_units"]')
    assert set(page.locator(".card").evaluate_all("all => all.map(c => c.dataset.task)")) <= {"action_units", "notes"}
    assert page.is_hidden("#chat") and page.is_hidden("#show-attention")
    assert json.loads(visit.sent()[-1].post_data)["mode"] == "movements"
    tasks = analysis(running, picture(), mode="movements")["faces"][0]["tasks"]
    assert shown(page, "action_units") == tasks["action_units"]["probabilities"]
    _, data = saved(page, "#export-json")
    assert list(json.loads(data)["faces"][0]["tasks"]) == ["action_units"]


def test_a_movements_server(browser: Any, model: Analyzer) -> None:
    with serving(model, mode="movements") as running, visiting(browser, running) as visit:
        page = visit.give(picture(), "me.png", "image/png")
        page.wait_for_selector(".card")
        assert page.is_checked("#movements") and page.is_disabled("#movements")
        assert page.is_hidden("#chat")
        assert not [r for r in visit.sent() if r.url.endswith("completions")]


def test_a_phone_does_not_scroll_sideways(browser: Any, running: Running) -> None:
    with visiting(browser, running, viewport={"width": 360, "height": 740}, color_scheme="dark") as visit:
        page = visit.open()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.check("#consent")
        visit.choose(two_faces(), "a-very-long-name-" * 8 + ".png", "image/png")
        page.wait_for_selector("button.why")
        page.click("button.why")
        page.wait_for_selector(".token")
        for summary in page.locator("summary:visible").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


NAMED = ("button", "checkbox", "switch", "radio", "textbox", "link", "group", "region", "dialog")


def test_every_control_has_a_name(visit: Visit) -> None:
    page = visit.photo(two_faces())
    page.click("button.why")
    page.wait_for_selector(".token")
    for summary in page.locator("summary:visible").all():
        summary.click()
    snapshot = page.locator("body").aria_snapshot()
    nameless = re.findall(rf"^\s*- (?:{'|'.join(NAMED)})(?: \[[^\]]*\])*:?$", snapshot, re.MULTILINE)
    # a list of details has no name of its own; its summary is what is named
    assert [line for line in nameless if "group" not in line] == []
    assert page.locator("[role=alert]").count() == 1 and page.locator("[aria-live=polite]").count() >= 2
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_file_is_forgotten_when_one_starts_again(visit: Visit, running: Running) -> None:
    page = visit.open()
    page.check("#consent")
    with page.expect_response("**/v1/files") as response:
        visit.choose(picture(), "me.png", "image/png")
    path = f"/v1/files/{response.value.json()['id']}"
    page.wait_for_selector(".card")
    assert running.http.get(path).status_code == 200
    page.click("#again")
    page.wait_for_selector("#drop:visible")
    happened(lambda: running.http.get(path).status_code == 404)
