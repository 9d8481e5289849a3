"use strict";
// Draws edges between the boxes that the page already has, strongest first, and tells of the node that is pointed at.
(() => {
  const holder = document.getElementById("data"), data = JSON.parse(holder.textContent);
  const NS = "http://www.w3.org/2000/svg", MOST_HOT = 400, MOST_TOLD = 12, WIDTHS = 6;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const Ends = data.wide ? Uint32Array : Uint16Array;
  const source = new Ends(bytes(data.source)), target = new Ends(bytes(data.target));
  const weight = new Float32Array(bytes(data.weight)), level = new Uint8Array(bytes(data.level));
  const count = weight.length, boxes = data.boxes;
  const grid = document.getElementById("grid"), panel = document.getElementById("panel");
  const into = data.nodes.map(() => []), out = data.nodes.map(() => []);
  for (let e = 0; e < count; e++) { into[target[e]].push(e); out[source[e]].push(e); }
  let pinned = -1, shown = -1;

  const curve = (e) => {
    const a = boxes[source[e]], b = boxes[target[e]], h = data.height;
    const x1 = a[0] + a[2] / 2, x2 = b[0] + b[2] / 2, level = a[1] <= b[1];
    const y1 = a[1], y2 = level ? b[1] : b[1] + h;
    const bend = level ? -24 : -Math.max(12, (y1 - y2) / 2);
    return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${level ? y2 + bend : y2 - bend} ${x2} ${y2}`;
  };
  const width = (e) => 0.5 + 4.5 * level[e] / 255;
  const path = (d, negative, stroke) => {
    const made = document.createElementNS(NS, "path");
    made.setAttribute("d", d);
    made.setAttribute("class", negative ? "minus" : "plus");
    made.style.strokeWidth = stroke;
    return made;
  };

  // All edges of one sign and about one width are one path: a dozen elements, however many the edges.
  const draw = (n) => {
    const parts = new Map();
    for (let e = 0; e < n; e++) {
      const key = 2 * Math.min(WIDTHS - 1, Math.floor(level[e] * WIDTHS / 256)) + (weight[e] < 0 ? 1 : 0);
      if (!parts.has(key)) parts.set(key, []);
      parts.get(key).push(curve(e));
    }
    const drawn = [...parts].sort((a, b) => b[0] - a[0]), edges = document.getElementById("edges");
    edges.style.opacity = Math.min(1, Math.sqrt(800 / Math.max(1, n)));  // Many are a mist, not a wall.
    edges.replaceChildren(
      ...drawn.map(([key, ds]) => path(ds.join(""), key % 2, 0.5 + 4.5 * ((key >> 1) + 0.5) / WIDTHS)));
    document.getElementById("told").textContent = `${n.toLocaleString("en")} of ${count.toLocaleString("en")}${n < count ? "" : ", all"}`;
  };

  const signed = (value) => {
    const size = Math.abs(value);
    if (size === 0) return "0";
    const text = size !== 0 && size < 1e-4 ? size.toExponential(2) : String(Number(size.toPrecision(3)));
    return (value < 0 ? "−" : "+") + text;
  };
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const byWeight = (edges) => [...edges].sort((a, b) => Math.abs(weight[b]) - Math.abs(weight[a]));
  const listed = (title, edges, ends) => {
    if (!edges.length) return [];
    const sorted = byWeight(edges), made = [element("h3", `${title} (${edges.length})`)];
    for (const e of sorted.slice(0, MOST_TOLD)) {
      const button = element("button", ""), facts = data.nodes[ends[e]];
      button.type = "button";
      button.append(element("b", signed(weight[e]), weight[e] < 0 ? "less" : ""),
        element("span", facts[0] + (facts[3] ? ` “${facts[3]}”${facts[5]}` : "")));
      button.addEventListener("click", () => { pin(ends[e]); focus(ends[e]); });
      made.push(button);
    }
    if (sorted.length > MOST_TOLD) made.push(element("p", `and ${sorted.length - MOST_TOLD} weaker`, "hint"));
    return made;
  };
  const tell = (i) => {
    const [words, id, kind, text, known] = data.nodes[i], list = document.createElement("dl");
    for (const [name, value] of known) list.append(element("dt", name), element("dd", value));
    panel.replaceChildren(element("h2", words), element("p", `${id} · ${kind}`, "id"));
    if (text) panel.append(element("p", text, "explained"));
    else if (id.startsWith("latent")) panel.append(element("p", "no explanation", "hint"));
    panel.append(list, ...listed("Comes from", into[i], source), ...listed("Goes to", out[i], target));
  };
  const show = (i) => {
    if (i === shown) return;
    for (const old of grid.querySelectorAll(".near, .on")) old.classList.remove("near", "on");
    grid.classList.toggle("picked", i >= 0);
    shown = i;
    const hot = document.getElementById("hot");
    if (i < 0) { hot.replaceChildren(); return; }
    const edges = [...byWeight(into[i]).slice(0, MOST_HOT), ...byWeight(out[i]).slice(0, MOST_HOT)];
    hot.replaceChildren(...edges.map((e) => path(curve(e), weight[e] < 0, Math.max(1.2, width(e)))));
    for (const e of edges) for (const n of [source[e], target[e]]) box(n).classList.add("near");
    box(i).classList.add("on");
    tell(i);
  };
  const box = (i) => document.getElementById(`n${i}`);
  const number = (node) => (node ? Number(node.id.slice(1)) : -1);
  const pin = (i) => { pinned = i; show(i); };
  const focus = (i) => {
    for (const old of grid.querySelectorAll('.n[tabindex="0"]')) old.setAttribute("tabindex", "-1");
    box(i).setAttribute("tabindex", "0");
    box(i).focus({ preventScroll: true });
    box(i).scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const next = (i, [dx, dy]) => {
    let best = -1, least = Infinity;
    boxes.forEach(([x, y], j) => {
      const along = dx * (x - boxes[i][0]) + dy * (y - boxes[i][1]);
      const aside = Math.abs(dx ? y - boxes[i][1] : x - boxes[i][0]);
      if (j !== i && along > 0 && along + 4 * aside < least) { least = along + 4 * aside; best = j; }
    });
    return best;
  };

  const nodes = document.getElementById("nodes");
  nodes.addEventListener("mouseover", (event) => { const n = event.target.closest(".n"); if (n && pinned < 0) show(number(n)); });
  nodes.addEventListener("mouseout", () => { if (pinned < 0) show(-1); });
  nodes.addEventListener("focusin", (event) => { if (pinned < 0) show(number(event.target.closest(".n"))); });
  grid.addEventListener("click", (event) => {
    const i = number(event.target.closest(".n"));
    pin(i === pinned ? -1 : i);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { pin(-1); return; }
    const i = number(document.activeElement?.closest?.(".n"));
    if (i < 0) return;
    if (event.key === "Enter" || event.key === " ") pin(i === pinned ? -1 : i);
    else if (STEPS[event.key]) {
      const to = next(i, STEPS[event.key]);
      if (to >= 0) { pinned = -1; focus(to); show(to); }
    } else return;
    event.preventDefault();
  });

  // The slider runs over the edges' number on a logarithm, so that a few and all of them are both within reach.
  const slider = document.getElementById("more"), top = Math.log(count + 1);
  const edgesAt = (place) => Math.round(Math.exp(top * place / 1000)) - 1;
  slider.value = count ? Math.round(1000 * Math.log(Number(holder.dataset.drawn) + 1) / top) : 0;
  let waiting = 0;
  slider.addEventListener("input", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => draw(Math.min(count, edgesAt(Number(slider.value)))));
  });
  document.querySelector(".controls").hidden = false;
  draw(Number(holder.dataset.drawn));
  // It opens at the left, where a reader begins. But what is explained stands at the last token, and a drawing of many
  // tokens is wider than the screen: it would open on a part from which nobody can tell what the page is about. There
  // it is moved by as much as shows what is explained and all that stands at its token, as far as there is room for it
  // beside its first box, and no more:
  // the topmost that edges lead into alone, and its like, since a latent far below may have lost those out of it to pruning.
  const drawing = document.querySelector(".drawing"), names = document.querySelector(".names");
  const ends = boxes.map((_, i) => i).filter((i) => into[i].length && !out[i].length);
  const [first] = ends.sort((i, j) => boxes[i][1] - boxes[j][1] || boxes[i][0] - boxes[j][0]);
  if (first !== undefined) {
    const alike = ends.filter((i) => data.nodes[i][2] === data.nodes[first][2]);
    const least = Math.min(...alike.map((i) => boxes[i][0]));
    const right = Math.max(...boxes.filter((box) => box[0] >= least).map((box) => box[0] + box[2])) + 8;
    const room = drawing.clientWidth - names.clientWidth;
    drawing.scrollLeft = Math.max(0, Math.min(right - room, boxes[first][0] - 8));
  }
  document.getElementById("left").hidden = drawing.scrollLeft === 0;
  const picked = /^#n(\d+)$/.exec(location.hash);
  if (picked && Number(picked[1]) < boxes.length) { pin(Number(picked[1])); focus(pinned); }
  document.documentElement.dataset.ready = "yes";
})();
