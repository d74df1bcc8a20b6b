// The course of expression and action units through a video, in step with the player.

import { byId, el, percent, shape, show } from "./dom.js";

const LEAST = 2; // curves shown of each task even where nothing passes its threshold

/** Draw what /v1/timeline found. */
export function drawTimeline(found, words, video) {
  show(byId("timeline"), true);
  if (!found.times.length) {
    byId("lanes").replaceChildren(el("p", { className: "abstained" }, `No statement: ${found.facellava.face.caution}.`));
    return;
  }
  const [first, last] = [found.times[0], found.times.at(-1)];
  const at = (time) => (time - first) / Math.max(1e-6, last - first);
  const lanes = ["expression", "action_units"].flatMap((task) => chosen(found, task).map((label) =>
    lane(found, task, label, words, at, (time) => { video.currentTime = time; })));
  byId("lanes").replaceChildren(el("div", { className: "lanes" }, lanes), table(found, words, video), el("p", { className: "quiet" },
    `${found.times.length} frames, ${first.toFixed(1)} to ${last.toFixed(1)} s. ▸ onset, ◆ apex, ◂ offset.`));
  const heads = byId("lanes").querySelectorAll(".head");
  const move = () => {
    for (const head of heads) head.style.setProperty("left", `${100 * Math.min(1, Math.max(0, at(video.currentTime)))}%`);
    if (!video.paused && heads[0]?.isConnected) requestAnimationFrame(move);
  };
  for (const event of ["play", "seeked", "timeupdate"]) video.addEventListener(event, move);
  move();
}

/** Labels worth a curve: those with an episode, and the strongest. */
function chosen(found, task) {
  const curves = Object.entries(found[task] ?? {});
  const peak = ([, curve]) => Math.max(...curve);
  const strongest = curves.toSorted((a, b) => peak(b) - peak(a)).slice(0, LEAST).map(([label]) => label);
  const shown = new Set([...strongest, ...found.episodes.filter((one) => one.task === task).map((one) => one.label)]);
  return curves.map(([label]) => label).filter((label) => shown.has(label));
}

function lane(found, task, label, words, at, seek) {
  const curve = found[task][label], text = words.tasks[task].labels[label].text;
  const points = curve.map((share, n) => `${(1000 * at(found.times[n])).toFixed(1)},${(100 * (1 - share)).toFixed(1)}`);
  const picture = shape("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    shape("polygon", { points: `0,100 ${points.join(" ")} 1000,100` }), shape("polyline", { points: points.join(" ") }));
  const plot = el("div", { className: "plot" }, picture);
  for (const one of found.episodes.filter((e) => e.task === task && e.label === label)) plot.append(...marks(one, at, found));
  plot.append(el("span", { className: "head" }));
  plot.addEventListener("click", (event) => {
    const { left, width } = plot.getBoundingClientRect();
    const [first, last] = [found.times[0], found.times.at(-1)];
    seek(first + ((event.clientX - left) / width) * (last - first));
  });
  const name = task === "action_units" ? `${label} ${text}` : label;
  return el("div", { className: "lane", "data-label": label }, el("span", { className: "label" }, name), plot);
}

function marks(episode, at, found) {
  const span = el("span", { className: "episode" });
  const from = episode.onset ?? found.times[0], to = episode.offset ?? found.times.at(-1);
  span.style.setProperty("left", `${100 * at(from)}%`);
  span.style.setProperty("width", `${100 * Math.max(0.004, at(to) - at(from))}%`);
  const signs = [["onset", "▸"], ["apex", "◆"], ["offset", "◂"]].filter(([kind]) => episode[kind] !== null);
  return [span, ...signs.map(([kind, sign]) => {
    const mark = el("span", { className: `moment ${kind}`, "data-kind": kind, "data-time": String(episode[kind]), "aria-hidden": "true" }, sign);
    mark.style.setProperty("left", `${100 * at(episode[kind])}%`);
    return mark;
  })];
}

/** The same for those who cannot see the curves; its buttons lead the player there. */
function table(found, words, video) {
  if (!found.episodes.length) return el("p", {}, "No expression but neutral, and no action unit, passes its threshold for long enough.");
  const cell = (time, name) => el("td", {}, time === null ? "–" : el("button", {
    type: "button", className: "plain small", "aria-label": `Go to the ${name} at ${time.toFixed(2)} seconds`,
    onclick: () => { video.currentTime = time; } }, `${time.toFixed(2)} s`));
  const rows = found.episodes.map((one) => el("tr", {},
    el("th", { scope: "row" }, one.task === "action_units" ? `${one.label} ${words.tasks.action_units.labels[one.label].text}` : one.label),
    cell(one.onset, "onset"), cell(one.apex, "apex"), cell(one.offset, "offset"), el("td", {}, percent(one.peak))));
  const head = ["What", "Onset", "Apex", "Offset", "At the apex"].map((text) => el("th", { scope: "col" }, text));
  return el("details", { open: found.episodes.length <= 6 }, el("summary", {}, "Moments"), el("div", { className: "scroll" },
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))));
}
