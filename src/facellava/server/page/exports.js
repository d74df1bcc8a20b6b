// What can be taken away: the result as JSON (docs/output.md), as the rows of a table, and as a picture.

import { plain } from "./dom.js";

const CELLS = 6; // a blurred face is at most so many averaged cells a side, as `facellava analyze --blur` does it
const GROWN = 0.125;

export function asJson(result, notice) {
  const { seconds, ...kept } = result;
  return new Blob([JSON.stringify({ ...kept, notice }, null, 2), "\n"], { type: "application/json" });
}

/** One row per face, in the columns of `MediaResult.to_rows`. */
export function asCsv(result) {
  const rows = result.faces.map((face) => ({ media: result.media, kind: result.kind, model: result.model, error: "", ...faceRow(face) }));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ""))];
  return new Blob([lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("")], { type: "text/csv" });
}

function faceRow(face) {
  const row = { face: face.id };
  ["x0", "y0", "x1", "y1"].forEach((name, n) => { row[name] = face.box[n]; });
  for (const [name, value] of Object.entries(face.quality)) row[`quality.${name}`] = value;
  for (const [name, task] of Object.entries(face.tasks)) {
    for (const [key, value] of Object.entries(task)) {
      if (key === "probabilities") for (const [label, share] of Object.entries(value)) row[`${name}.p.${label}`] = share;
      else if (key === "range") [row[`${name}.low`], row[`${name}.high`]] = value ?? ["", ""];
      else row[`${name}.${key}`] = Array.isArray(value) ? value.join(" ") : value;
    }
  }
  return row;
}

function quoted(value) {
  let text = typeof value === "boolean" ? (value ? "True" : "False") : String(value);
  // a spreadsheet would run what begins like a formula, and file names are anybody's
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The picture with boxes, landmarks and short labels; of the boxes in `hidden` neither features nor landmarks are kept. */
export function asPng(element, places, result, notice, { hidden, landmarks }) {
  const width = element.naturalWidth ?? element.videoWidth, height = element.naturalHeight ?? element.videoHeight;
  const unit = Math.max(1, Math.min(width, height) / 400), foot = Math.round(32 * unit);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height + foot];
  const context = canvas.getContext("2d", { willReadFrequently: hidden.length > 0 });
  context.drawImage(element, 0, 0, width, height);
  for (const box of hidden) mosaic(context, box, width, height);
  for (const face of places) {
    if (landmarks) points(context, face.landmarks, unit);
    context.strokeStyle = "white";
    context.lineWidth = 1.5 * unit;
    const [x0, y0, x1, y1] = face.box;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  for (const face of places) label(context, face, result, unit, width, height);
  context.fillStyle = "black";
  context.fillRect(0, height, width, foot);
  context.fillStyle = "white";
  context.font = `${10 * unit}px system-ui, sans-serif`;
  const said = notice.replaceAll("\n", " ").split(". ").slice(0, 2);
  said.forEach((line, n) => context.fillText(`${line}.`, 6 * unit, height + (13 + 13 * n) * unit, width - 12 * unit));
  return new Promise((done) => { canvas.toBlob(done, "image/png"); });
}

/** Averages, not a filter: what is gone cannot be sharpened back. */
function mosaic(context, [x0, y0, x1, y1], width, height) {
  const [gx, gy] = [GROWN * (x1 - x0), GROWN * (y1 - y0)];
  const left = Math.max(0, Math.floor(x0 - gx)), top = Math.max(0, Math.floor(y0 - gy));
  const w = Math.min(width, Math.ceil(x1 + gx)) - left, h = Math.min(height, Math.ceil(y1 + gy)) - top;
  if (w <= 0 || h <= 0) return;
  const { data } = context.getImageData(left, top, w, h);
  const sums = Array.from({ length: CELLS * CELLS }, () => [0, 0, 0, 0]);
  for (let y = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) {
      const sum = sums[Math.floor((y * CELLS) / h) * CELLS + Math.floor((x * CELLS) / w)], n = 4 * (y * w + x);
      for (let c = 0; c < 3; c += 1) sum[c] += data[n + c];
      sum[3] += 1;
    }
  }
  sums.forEach(([r, g, b, count], n) => {
    if (!count) return;
    context.fillStyle = `rgb(${r / count} ${g / count} ${b / count})`;
    const [column, row] = [n % CELLS, Math.floor(n / CELLS)];
    const cx = left + Math.ceil((column * w) / CELLS), cy = top + Math.ceil((row * h) / CELLS);
    context.fillRect(cx, cy, left + Math.ceil(((column + 1) * w) / CELLS) - cx, top + Math.ceil(((row + 1) * h) / CELLS) - cy);
  });
}

function points(context, landmarks, unit) {
  context.fillStyle = "rgb(255 255 255 / 0.85)";
  for (const [x, y] of landmarks) {
    context.beginPath();
    context.arc(x, y, 1.2 * unit, 0, 7);
    context.fill();
  }
}

function label(context, place, result, unit, width, height) {
  const lines = summary(result.faces.find((face) => face.id === place.id));
  const step = 14 * unit, pad = 4 * unit;
  context.font = `${11 * unit}px system-ui, sans-serif`;
  const w = Math.max(...lines.map((line) => context.measureText(line).width)) + 2 * pad, h = step * lines.length + pad;
  const [x0, y0, x1, y1] = place.box;
  const spots = [[x1 + pad, y0], [x0 - pad - w, y0], [x0, y1 + pad], [x0, y0 - pad - h]];
  const fits = ([x, y]) => x >= 0 && y >= 0 && x + w <= width && y + h <= height;
  const [left, top] = spots.find(fits) ?? [Math.max(0, Math.min(x1 + pad, width - w)), Math.max(0, Math.min(y0, height - h))];
  context.fillStyle = "rgb(0 0 0 / 0.66)";
  context.fillRect(left, top, w, h);
  context.fillStyle = "white";
  lines.forEach((line, n) => context.fillText(line, left + pad, top + step * (n + 0.8)));
}

function summary(face) {
  if (!face) return ["face"];
  const { expression, action_units: units, age, deepfake } = face.tasks;
  const lines = [`face ${face.id + 1}`];
  if (expression?.label) lines.push(`${expression.label} ${Math.round(100 * expression.probabilities[expression.label])} %`);
  if (units?.active.length) lines.push(units.active.join(" "));
  if (age && age.years !== null) lines.push(`about ${age.years} years${age.range ? ` (${age.range.join("-")})` : ""}`);
  if (deepfake?.label === "fake") lines.push("possible manipulation");
  const silent = Object.entries(face.tasks).filter(([, task]) => task.abstained).map(([name]) => plain(name));
  if (silent.length) lines.push(`no statement: ${silent.join(", ")}`);
  return lines;
}
