// From a file to an answer. What is known is in `state`; everything else draws it.

import { Api } from "./api.js";
import { fillCards } from "./cards.js";
import { Chat } from "./chat.js";
import { byId, download, el, show } from "./dom.js";
import { asCsv, asJson, asPng } from "./exports.js";
import { listen } from "./source.js";
import { Stage } from "./stage.js";
import { drawTimeline } from "./timeline.js";

const LOCAL = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
const FIRST_QUESTION = "Describe this face.";

const api = new Api();
const stage = new Stage((face) => chooseFace(face));
const chat = new Chat(api, stage, fail);
const state = { words: null, waiting: null, id: null, marks: null, result: null, face: 0, run: 0, timelines: new Map() };

const mode = () => (byId("movements").checked ? "movements" : "full");

async function start() {
  const where = LOCAL.test(location.hostname) ? "the server on this machine" : `the server at ${location.host}`;
  for (const place of document.querySelectorAll("[data-server]")) place.textContent = where;
  listen(take);
  byId("consent").addEventListener("change", () => { if (state.waiting) take(state.waiting); });
  byId("movements").addEventListener("change", changeMode);
  byId("again").addEventListener("click", again);
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.key = byId("key").value;
    greet();
  });
  byId("export-json").addEventListener("click", () => save("json", asJson(state.result, state.words.notice)));
  byId("export-csv").addEventListener("click", () => save("csv", asCsv(state.result)));
  byId("export-png").addEventListener("click", savePicture);
  addEventListener("pagehide", () => { if (state.id) api.forget(state.id); });
  state.words = await (await fetch(new URL("words.json", import.meta.url))).json();
  await greet();
}

/** Who answers here, and whether it wants a key. */
async function greet() {
  try {
    const { data: [model] } = await api.models();
    byId("model").textContent = model.id;
    if (model.mode === "movements") {
      byId("movements").checked = byId("movements").disabled = true;
      byId("movements").closest("label").title = "This server reports movements only";
    }
    show(byId("key-form"), false);
    fail(null);
    applyMode();
    document.body.dataset.ready = "true";
  } catch (failure) {
    if (failure.code === "invalid_api_key" && byId("key-form").hidden) {
      show(byId("key-form"), true);
      byId("key").focus();
    } else fail(failure);
  }
}

/** A file came; it waits until the box is ticked. */
function take(file, problem = null) {
  if (!file) return fail(new Error(problem));
  state.waiting = file;
  if (!byId("consent").checked) {
    byId("waiting").textContent = `${file.name} has not been sent: tick the box above first.`;
    byId("consent").focus();
    return undefined;
  }
  byId("waiting").textContent = "";
  state.waiting = null;
  return open(file);
}

async function open(file) {
  await forget();
  const run = ++state.run;
  fail(null);
  stage.open(file);
  show(byId("start"), false);
  show(byId("work"), true);
  const id = await step(run, "Sending …", () => api.upload(file));
  if (!id) return;
  [state.id, state.name] = [id.id, file.name];
  const marks = await step(run, "Looking for faces …", () => api.landmarks(state.id));
  if (!marks) return;
  state.marks = marks;
  stage.found(marks);
  listFaces();
  byId("main").focus({ preventScroll: true });
  await analyze(run);
}

/** One step of the way; undefined where it fails, or where the user has gone on to something else. */
async function step(run, words, action) {
  byId("status").textContent = words;
  try {
    const found = await action();
    return run === state.run ? found : undefined;
  } catch (failure) {
    if (run !== state.run) return undefined;
    byId("status").textContent = "";
    if (!state.marks) await again();
    fail(failure);
    return undefined;
  }
}

async function analyze(run) {
  state.timelines.clear();
  const result = await step(run, "Reading the face …", () => api.analyze(state.id, state.name, mode()));
  if (!result) return;
  state.result = result;
  const count = result.faces.length;
  byId("status").textContent = count === 1 ? "One face." : `${count} faces.`;
  await chooseFace(state.marks.faces.some(({ id }) => id === state.face) ? state.face : largest());
}

function largest() {
  const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
  return state.marks.faces.reduce((a, b) => (area(b) > area(a) ? b : a)).id;
}

function listFaces() {
  const { faces } = state.marks;
  state.face = largest();
  stage.choosen(state.face);
  show(byId("faces"), faces.length > 1);
  byId("faces").replaceChildren(byId("faces").firstElementChild, ...faces.map(({ id }) => el("label", { className: "pick" },
    el("input", { type: "radio", name: "face", value: String(id), checked: id === state.face, onchange: () => chooseFace(id) }),
    el("span", {}, `Face ${id + 1}`))));
}

async function chooseFace(id) {
  state.face = id;
  for (const input of byId("faces").querySelectorAll("input")) input.checked = Number(input.value) === id;
  stage.choosen(id);
  const face = state.result?.faces.find((one) => one.id === id);
  if (!face) return;
  stage.attention(face.region_attention);
  fillCards(face, state.words, (regions) => stage.light(regions));
  chat.about(state.id, state.marks.kind, id);
  const caution = state.marks.faces.find((one) => one.id === id).caution;
  if (mode() === "full" && !caution) await chat.ask(FIRST_QUESTION);
  if (state.marks.kind === "video") await follow(id);
}

/** The timeline of a video's face. */
async function follow(id) {
  const [run, key] = [state.run, `${mode()} ${id}`];
  const found = state.timelines.get(key)
    ?? await step(run, "Following the face through the video …", () => api.timeline(state.id, id, mode()));
  if (!found || state.face !== id || key !== `${mode()} ${id}`) return;
  state.timelines.set(key, found);
  byId("status").textContent = "";
  drawTimeline(found, state.words, stage.video);
}

function applyMode() {
  document.body.classList.toggle("movements", mode() === "movements");
  if (mode() === "movements") byId("show-attention").checked = false;
  stage.draw();
}

async function changeMode() {
  applyMode();
  if (!state.marks) return;
  byId("cards").replaceChildren();
  byId("lanes").replaceChildren();
  chat.about(null);
  state.result = null;
  await analyze(++state.run);
}

async function forget() {
  const { id } = state;
  Object.assign(state, { id: null, marks: null, result: null, face: 0 });
  chat.about(null);
  stage.clear();
  byId("cards").replaceChildren();
  show(byId("timeline"), false);
  show(byId("faces"), false);
  if (id) await api.forget(id);
}

async function again() {
  state.run += 1;
  fail(null);
  show(byId("work"), false);
  show(byId("start"), true);
  byId("file").focus();
  await forget();
}

function fail(failure) {
  byId("problem").textContent = failure?.message ?? "";
  show(byId("problem"), failure);
}

function save(ending, blob) {
  if (!state.result) return;
  const stem = (state.name || "face").replace(/\.[^.]*$/, "");
  download(blob, `${stem}.facellava.${ending}`);
}

async function savePicture() {
  if (!state.result) return;
  const blur = byId("blur").checked;
  const wishes = { hidden: blur ? stage.hidden() : [], landmarks: byId("show-points").checked && !blur };
  save("png", await asPng(stage.element, stage.places(), state.result, state.words.notice, wishes));
}

start();
