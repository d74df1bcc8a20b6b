// The picture or video with what was found on it: boxes, landmarks, regions, and heat maps.

import { byId, plain, shape, show } from "./dom.js";

const CLOSED = new Set(["right_eye", "left_eye", "lips", "teeth"]);
const HEAT = [226, 88, 34];

export class Stage {
  #picture = byId("picture");
  #video = byId("video");
  #marks = byId("marks");
  #heat = byId("heat");
  #found = null;
  #chosen = null;
  #attention = {};
  #lit = new Set();
  #address = "";

  /** `choose(face id)` is called when a box is clicked. */
  constructor(choose) {
    this.choose = choose;
    const follow = () => { this.draw(); if (!this.#video.paused) requestAnimationFrame(follow); };
    for (const event of ["play", "seeked", "loadeddata"]) this.#video.addEventListener(event, follow);
    for (const element of [this.#picture, this.#video]) {
      element.addEventListener("error", () => show(byId("unseen"), element.hasAttribute("src")));
    }
    byId("show-points").addEventListener("change", () => this.draw());
    byId("show-attention").addEventListener("change", () => this.draw());
  }

  get video() { return this.#video; }
  get element() { return this.#video.hidden ? this.#picture : this.#video; }

  /** Show a file, before anything is known about it. */
  open(file) {
    this.clear();
    show(byId("unseen"), false);
    const video = file.type.startsWith("video/");
    this.#address = URL.createObjectURL(file);
    show(this.#picture, !video);
    show(this.#video, video);
    if (video) this.#video.src = this.#address;
    else [this.#picture.src, this.#picture.alt] = [this.#address, file.name];
  }

  clear() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
    for (const element of [this.#picture, this.#video]) element.removeAttribute("src");
    this.#video.load();
    this.#found = this.#chosen = null;
    this.#attention = {};
    this.#lit.clear();
    this.cool();
    this.#marks.replaceChildren();
  }

  /** What /v1/landmarks found. */
  found(found) {
    this.#found = found;
    const { width, height } = found;
    this.#marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    byId("frame").style.setProperty("aspect-ratio", `${width} / ${height}`);
    byId("frame").style.setProperty("--ratio", String(width / height));
    if (found.kind === "video" && this.#video.currentTime === 0) this.#video.currentTime = found.moment;
    this.draw();
  }

  choosen(id) {
    this.#chosen = id;
    this.cool();
    this.draw();
  }

  /** Shares of attention by region of the chosen face. */
  attention(shares) {
    this.#attention = shares ?? {};
    this.draw();
  }

  /** Highlight regions; none for an empty list. */
  light(regions) {
    this.#lit = new Set(regions);
    this.draw();
  }

  /** Where the faces are now: [{id, box, crop, landmarks}], of a video those of the nearest frame. */
  places() {
    if (!this.#found) return [];
    const now = this.#video.currentTime;
    return this.#found.faces.flatMap((face) => {
      if (!face.track.length) return [face];
      const near = face.track.reduce((a, b) => (Math.abs(b.time - now) < Math.abs(a.time - now) ? b : a));
      const gap = Math.max(0.25, 2 * (face.track.at(-1).time - face.track[0].time) / face.track.length);
      return Math.abs(near.time - now) <= gap ? [{ ...face, ...near }] : [];
    });
  }

  /** Boxes that a picture with blurred faces must hide now: the faces, and all that the detector takes for one in the
   * frames before and after this moment. */
  hidden() {
    if (!this.#found) return [];
    const now = this.#video.currentTime, frames = this.#found.detections;
    const near = [frames.findLast(({ time }) => time <= now), frames.find(({ time }) => time >= now)];
    return [...this.places().map(({ box }) => box), ...near.flatMap((frame) => frame?.boxes ?? [])];
  }

  draw() {
    if (!this.#found) return;
    const unit = Math.max(this.#found.width, this.#found.height) / 400;
    const points = byId("show-points").checked, heat = byId("show-attention").checked;
    this.#marks.style.setProperty("--unit", String(unit));
    this.#marks.replaceChildren(...this.places().map((face) => {
      const group = shape("g", { class: face.id === this.#chosen ? "face chosen" : "face" });
      const regions = face.id === this.#chosen ? this.#regions(face, heat) : [];
      if (points) group.append(...face.landmarks.map(([x, y]) => shape("circle", { cx: x, cy: y, r: 1.1 * unit })));
      group.prepend(...regions);
      group.append(this.#box(face, unit));
      return group;
    }));
  }

  #box(face, unit) {
    const [x0, y0, x1, y1] = face.box;
    const box = shape("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 3 * unit, "data-face": face.id });
    box.append(shape("title", {}, `Face ${face.id + 1}`));
    box.addEventListener("click", () => this.choose(face.id));
    return box;
  }

  #regions(face, heat) {
    const strongest = Math.max(...Object.values(this.#attention), 1e-9);
    return Object.entries(this.#found.regions).flatMap(([name, [start, stop]]) => {
      const lit = this.#lit.has(name);
      if (!lit && !heat) return [];
      const points = face.landmarks.slice(start, stop).map((xy) => xy.join(",")).join(" ");
      const area = shape(CLOSED.has(name) ? "polygon" : "polyline", {
        points, class: lit ? "region lit" : "region", "data-region": name });
      if (!lit) area.style.setProperty("--share", String((this.#attention[name] ?? 0) / strongest));
      area.append(shape("title", {}, plain(name)));
      return [area];
    });
  }

  /** A heat map of g x g values over the square of the chosen face. */
  warm(values, grid) {
    const face = this.places().find((one) => one.id === this.#chosen);
    if (!face) return;
    const { width, height } = this.#found;
    const strongest = Math.max(...values, 1e-9);
    const small = new ImageData(grid, grid);
    values.forEach((value, n) => small.data.set([...HEAT, 215 * (value / strongest)], 4 * n));
    const cells = document.createElement("canvas");
    cells.width = cells.height = grid;
    cells.getContext("2d").putImageData(small, 0, 0);
    const scale = Math.min(1, 900 / Math.max(width, height));
    [this.#heat.width, this.#heat.height] = [Math.round(width * scale), Math.round(height * scale)];
    const context = this.#heat.getContext("2d");
    const [x, y, side] = face.crop.map((value) => value * scale);
    context.imageSmoothingQuality = "high";
    context.drawImage(cells, x, y, side, side);
    this.#heat.dataset.warm = "true";
  }

  cool() {
    this.#heat.getContext("2d").clearRect(0, 0, this.#heat.width, this.#heat.height);
    delete this.#heat.dataset.warm;
  }
}
