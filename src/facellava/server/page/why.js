// The words of an answer, each with what it attended to: a heat map on the face, and numbers beside it.

import { bar, byId, el, percent, plain, show } from "./dom.js";

const PARTS = {
  face: "the picture of the face",
  report: "the face experts' report",
  frame: "fixed opening of the conversation",
  question: "questions and earlier answers",
  answer: "earlier words of this answer",
};

/** Replace an answer's text by words that can be pointed at, or walked through with the arrow keys. */
export function traced(words, found, stage) {
  const spans = found.tokens.map((token) => el("span", {
    className: "token", tabIndex: -1, role: "button", "aria-label": token.text.trim() || "space" }, token.text));
  spans[0].tabIndex = 0;
  spans.forEach((span, n) => {
    const look = () => { read(found, n, stage, spans); };
    span.addEventListener("mouseenter", look);
    span.addEventListener("focus", look);
    span.addEventListener("click", look);
    span.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -n, End: spans.length - 1 - n }[event.key];
      const next = spans[n + step];
      if (!next) return;
      event.preventDefault();
      [span.tabIndex, next.tabIndex] = [-1, 0];
      next.focus();
    });
  });
  words.classList.add("traced");
  words.setAttribute("role", "group");
  words.setAttribute("aria-label", "Words of the answer: arrow keys walk through them");
  words.replaceChildren(...spans);
  read(found, 0, stage, spans);
}

function read(found, n, stage, spans) {
  for (const other of document.querySelectorAll(".token.lit")) other.classList.remove("lit");
  spans[n].classList.add("lit");
  const token = found.tokens[n];
  stage.warm(token.patches, found.grid);
  byId("reading").replaceChildren(...reading(found, token));
  show(byId("reading"), true);
}

function reading(found, token) {
  const parts = Object.entries(token.attention).sort((a, b) => b[1] - a[1]);
  const regions = Object.entries(token.regions).sort((a, b) => b[1] - a[1]);
  return [
    el("h3", {}, `“${token.text.trim()}”`),
    el("p", {}, `Probability ${percent(token.probability)}; ${percent(token.without_face)} when the words cannot see the face's patches.`),
    el("h4", {}, "Attention falls on"),
    el("ul", { className: "bars" }, parts.map(([name, share]) => el("li", { "data-label": name }, bar(PARTS[name], share)))),
    ...line(found, token),
    el("details", {}, el("summary", {}, `Within the face, by region: ${regions.slice(0, 2).map(([name]) => plain(name)).join(", ")} …`),
      el("ul", { className: "bars" }, regions.map(([name, share]) => el("li", { "data-label": name }, bar(plain(name), share))))),
    el("p", { className: "quiet" }, "The heat map shows where on the face that part of the attention falls. Attention says what is read, not what caused a word."),
  ];
}

/** The line of the report that is read most. */
function line(found, token) {
  if (!found.report.length) return [];
  const most = token.report.indexOf(Math.max(...token.report));
  return [el("p", {}, "Most read line of the report: ", el("q", {}, found.report[most]))];
}
