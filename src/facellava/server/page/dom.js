// Small helpers; text only ever enters the page as text.

export const byId = (id) => document.getElementById(id);

/** An element with properties (data-* and aria-* as attributes) and children. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function shape(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
export const plain = (name) => name.replaceAll("_", " ");
export const show = (node, visible) => { node.hidden = !visible; };

/** A labelled horizontal bar; its number is text, the bar a picture of it. */
export function bar(label, share, { strong = false, mark = null, title = "" } = {}) {
  const track = el("span", { className: "track", "aria-hidden": "true" }, el("span", { className: "fill" }));
  track.firstChild.style.setProperty("width", `${100 * Math.min(1, Math.max(0, share))}%`);
  if (mark !== null) {
    const line = el("span", { className: "threshold" });
    line.style.setProperty("left", `${100 * mark}%`);
    track.append(line);
  }
  return el("span", { className: strong ? "bar strong" : "bar", title },
    el("span", { className: "label" }, label), track,
    el("span", { className: "value", "data-value": String(share) }, percent(share)));
}

/** Hand a file to the user. */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
