// The typed result of one face, a card a task.

import { bar, byId, el, percent, plain } from "./dom.js";

const ORDER = { expression, action_units: units, attributes, age, deepfake };

/** Fill the cards of a face. `light(regions)` highlights parts of it. */
export function fillCards(face, words, light) {
  const cards = Object.entries(ORDER).filter(([name]) => name in face.tasks).map(([name, body]) => {
    const task = face.tasks[name];
    const content = task.abstained
      ? [el("p", { className: "abstained" }, `No statement: ${task.reason}.`)]
      : body(task, words.tasks[name].labels, light);
    return card(name, words.tasks[name].title, content);
  });
  if (Object.keys(face.region_attention).length && "expression" in face.tasks) cards.push(attention(face, light));
  if (face.notes.length) cards.push(card("notes", "Notes", face.notes.map((note) => el("p", {}, note))));
  byId("cards").replaceChildren(...cards);
}

function card(name, title, content) {
  const id = `card-${name}`;
  return el("section", { className: "panel card", "data-task": name, "aria-labelledby": id },
    el("h2", { id }, title), ...content);
}

const byShare = (a, b) => b[1] - a[1];

function expression(task) {
  const rows = Object.entries(task.probabilities).sort(byShare);
  return [
    el("p", { className: "answer" }, task.label, el("span", { className: "quiet" }, " displayed")),
    el("ul", { className: "bars" }, rows.map(([name, share]) =>
      el("li", { "data-label": name }, bar(name, share, { strong: name === task.label })))),
  ];
}

function units(task, labels, light) {
  const rows = Object.entries(task.probabilities).sort(byShare).map(([name, share]) => {
    const active = task.active.includes(name);
    return { active, row: el("li", { "data-label": name }, lamp(name, share, active, labels, light)) };
  });
  const some = rows.filter(({ active }) => active).map(({ row }) => row);
  const rest = rows.filter(({ active }) => !active).map(({ row }) => row);
  return [
    some.length ? el("ul", { className: "bars" }, some) : el("p", {}, "No action unit is clearly active."),
    rest.length ? more(`${rest.length} not active`, el("ul", { className: "bars" }, rest)) : null,
  ];
}

/** A row that lights the unit's regions while it is pointed at or focused. */
function lamp(name, share, active, labels, light) {
  const { text, regions } = labels[name];
  return el("button", {
    type: "button", className: "lamp",
    "aria-label": `${name}, ${text}: ${percent(share)}${active ? ", active" : ""}; shows at ${regions.map(plain).join(", ")}`,
    onmouseenter: () => light(regions), onmouseleave: () => light([]),
    onfocus: () => light(regions), onblur: () => light([]),
  }, bar(`${name} ${text}`, share, { strong: active }));
}

function attributes(task, labels) {
  // what is not asked for by default, such as a rating of looks, is not shown
  const usual = ([name]) => labels[name].default;
  const rows = Object.entries(task.probabilities).filter(usual).sort(byShare);
  const present = rows.filter(([name]) => task.present.includes(name));
  const row = ([name, share]) =>
    el("li", { "data-label": name }, bar(labels[name].text, share, { strong: task.present.includes(name) }));
  return [
    present.length
      ? el("ul", { className: "chips" }, present.map(([name]) => el("li", {}, labels[name].text)))
      : el("p", {}, "None of the known attributes."),
    more("Probabilities", el("div", {}, el("p", { className: "quiet" }, "Each counts from a threshold of its own."),
      el("ul", { className: "bars" }, rows.map(row)))),
    task.untrained.length
      ? el("p", { className: "quiet" }, `Without examples in training, so not stated: ${task.untrained.map(plain).join(", ")}.`)
      : null,
  ];
}

function age(task) {
  if (task.years === null) return [el("p", {}, "No estimate.")];
  const [low, high] = task.range ?? [task.years, task.years];
  const scale = el("div", { className: "scale", "aria-hidden": "true" }, el("span", { className: "span" }), el("span", { className: "point" }));
  scale.children[0].style.setProperty("left", `${low}%`);
  scale.children[0].style.setProperty("width", `${Math.max(1, high - low)}%`);
  scale.children[1].style.setProperty("left", `${task.years}%`);
  return [
    el("p", { className: "answer" }, `about ${task.years}`, el("span", { className: "quiet" }, ` years, likely ${low} to ${high}`)),
    scale,
    el("p", { className: "quiet" }, "Apparent age: an estimate."),
  ];
}

function deepfake(task) {
  const fake = task.label === "fake";
  return [
    el("p", { className: "answer" }, fake ? "possible manipulation" : "no sign of manipulation"),
    el("ul", { className: "bars" }, Object.entries(task.probabilities).map(([name, share]) =>
      el("li", { "data-label": name }, bar(name === "fake" ? "manipulated" : "unaltered", share, { strong: name === task.label })))),
    el("p", { className: "quiet" }, "A hint, never proof."),
  ];
}

function attention(face, light) {
  const rows = Object.entries(face.region_attention).sort(byShare);
  return card("attention", "Where the visual tokens looked", [
    el("p", { className: "quiet" }, "Share of the region-guided attention (FRGCA), the mean over patches, heads and frames."),
    el("ul", { className: "bars" }, rows.map(([name, share]) => el("li", { "data-label": name },
      el("button", {
        type: "button", className: "lamp", "aria-label": `${plain(name)}: ${percent(share)}`,
        onmouseenter: () => light([name]), onmouseleave: () => light([]),
        onfocus: () => light([name]), onblur: () => light([]),
      }, bar(plain(name), share))))),
  ]);
}

function more(title, content) {
  return el("details", {}, el("summary", {}, title), content);
}
