// A conversation about one face: answers stream in, follow-ups know what was said, and each answer can be traced.

import { byId, el, show } from "./dom.js";
import { traced } from "./why.js";

const HINTS = ["Describe this face.", "What is the mouth doing?", "Which expression is displayed, and why?"];

export class Chat {
  #turns = []; // {question, answer}
  #media = null;
  #face = 0;
  #stopper = null;

  /** `fail(error)` shows what went wrong. */
  constructor(api, stage, fail) {
    Object.assign(this, { api, stage, fail });
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = byId("question"), question = field.value.trim();
      field.value = "";
      if (question) this.ask(question);
    });
    byId("stop").addEventListener("click", () => this.#stopper?.abort());
    byId("hints").append(...HINTS.map((text) =>
      el("button", { type: "button", className: "hint", onclick: () => this.ask(text) }, text)));
  }

  /** Begin anew, about a face of an uploaded file. */
  about(media, kind, face) {
    this.#stopper?.abort();
    this.#busy(null);
    [this.#media, this.#face, this.#turns] = [media && { media, kind }, face, []];
    byId("turns").replaceChildren();
    show(byId("reading"), false);
  }

  async ask(question) {
    if (!this.#media || this.#stopper) return;
    const turn = { question, answer: "" }, stopper = new AbortController();
    const words = el("p", { className: "said", "aria-busy": "true" });
    const shown = el("article", { className: "turn" }, el("p", { className: "asked" }, question), words);
    byId("turns").append(shown);
    this.#busy(stopper);
    try {
      await this.api.chat(this.#messages(turn), this.#face, (piece) => {
        turn.answer += piece;
        words.textContent = turn.answer;
      }, stopper.signal);
    } catch (failure) {
      if (failure.name !== "AbortError") {
        if (!turn.answer) shown.remove();
        if (this.#stopper === stopper) this.fail(failure);
      }
    }
    words.removeAttribute("aria-busy");
    if (this.#stopper !== stopper) return;
    this.#busy(null);
    if (!turn.answer) return;
    this.#turns.push(turn);
    shown.append(this.#whyButton(words, this.#messages(turn), turn.answer));
  }

  #busy(stopper) {
    this.#stopper = stopper;
    show(byId("stop"), stopper);
    show(byId("send"), !stopper);
    for (const hint of byId("hints").children) hint.disabled = Boolean(stopper);
  }

  /** The conversation up to a turn's question, in OpenAI's form; the medium comes with the first question. */
  #messages(turn) {
    const before = this.#turns.slice(0, this.#turns.includes(turn) ? this.#turns.indexOf(turn) : undefined);
    const { media, kind } = this.#media;
    const part = kind === "video" ? { type: "video_url", video_url: { url: media } } : { type: "image_url", image_url: { url: media } };
    const messages = [...before, turn].flatMap(({ question, answer }, n) => [
      { role: "user", content: n ? question : [part, { type: "text", text: question }] },
      { role: "assistant", content: answer },
    ]);
    return messages.slice(0, -1);
  }

  #whyButton(words, messages, answer) {
    const face = this.#face;
    const button = el("button", { type: "button", className: "plain small why" }, "Why these words?");
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.textContent = "Tracing …";
      try {
        const found = await this.api.why([...messages, { role: "assistant", content: answer }], face);
        traced(words, found, this.stage);
        button.remove();
        words.firstElementChild.focus();
      } catch (failure) {
        button.disabled = false;
        button.textContent = "Why these words?";
        this.fail(failure);
      }
    });
    return button;
  }
}
