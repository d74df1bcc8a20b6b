// The server that gave this page out, and nobody else.

export class ApiError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

const HELP = {
  no_face: "No face was found. Try a picture in which a face is larger, sharper and turned to the camera.",
  unsupported_media: "This file is neither a picture nor a video that can be read.",
  damaged_media: "This file is damaged: it cannot be read to its end.",
  empty_file: "This file is empty.",
  media_too_large: "This picture or video is too large or too long for this server.",
  body_too_large: "This file is too large for this server.",
  queue_full: "The model is busy. Try again in a moment.",
  invalid_api_key: "That is not this server's API key.",
};

export class Api {
  #key = "";
  set key(value) { this.#key = value; }

  models() { return this.#json("v1/models"); }
  landmarks(media) { return this.#post("v1/landmarks", { media }); }
  analyze(media, name, mode) { return this.#post("v1/analyze", { media, name, mode, explain: false }); }
  timeline(media, face, mode) { return this.#post("v1/timeline", { media, face, mode }); }
  why(messages, face) { return this.#post("v1/why", { messages, face }); }

  upload(file) {
    const form = new FormData();
    form.append("file", file, file.name || "camera.jpg");
    form.append("purpose", "vision");
    return this.#json("v1/files", { method: "POST", body: form });
  }

  forget(id) {
    // also while the page is being left
    return fetch(`v1/files/${id}`, { method: "DELETE", headers: this.#headers(), keepalive: true }).catch(() => null);
  }

  /** Stream an answer; `piece` is called with each part of it. */
  async chat(messages, face, piece, signal) {
    const body = JSON.stringify({ messages, face, stream: true });
    const response = await this.#fetch("v1/chat/completions", {
      method: "POST", body, signal, headers: { "content-type": "application/json" } });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let held = ""; ;) {
      const { value, done } = await this.#reach(() => reader.read());
      if (done) throw new ApiError("The answer broke off: is the server still running?", "broken");
      const events = (held + value).split("\n\n");
      held = events.pop();
      for (const data of events.map((event) => event.replace(/^data: /, ""))) {
        if (data === "[DONE]") return;
        const parsed = JSON.parse(data);
        if (parsed.error) throw told(parsed.error);
        piece(parsed.choices[0]?.delta?.content ?? "");
      }
    }
  }

  #post(path, body) {
    return this.#json(path, {
      method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  }

  async #json(path, options = {}) {
    return (await this.#fetch(path, options)).json();
  }

  async #fetch(path, options) {
    const response = await this.#reach(() =>
      fetch(path, { ...options, headers: { ...this.#headers(), ...options.headers } }));
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({ error: { message: `status ${response.status}` } }));
    throw told(error);
  }

  /** A failure of the connection in words. */
  async #reach(action) {
    try {
      return await action();
    } catch (failure) {
      if (failure.name === "AbortError") throw failure;
      throw new ApiError("The server does not answer: is it still running?", "unreachable");
    }
  }

  #headers() {
    return this.#key ? { authorization: `Bearer ${this.#key}` } : {};
  }
}

function told({ message, code }) {
  return new ApiError(HELP[code] ?? `${message[0].toUpperCase()}${message.slice(1)}.`, code);
}
