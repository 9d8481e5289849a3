"use strict";
// Everything on the page that comes from the data is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const latents = data.firings.length;
const CHUNK = 200;

function element(name, properties, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const count = (value) => value.toLocaleString("en-US");
const digits = (value) => (value === null ? "–" : String(value).replace("-", "−"));
const signed = (value) => (value > 0 ? "+" : "") + digits(value);

function rate(value) {
  if (!value) return "never";
  return value >= 0.1 ? `${Math.round(100 * value)}%` : `1 in ${count(Math.round(1 / value))}`;
}

// What the address says: #latent=12&search=ball&sort=rate
function asked() {
  const told = new URLSearchParams(location.hash.slice(1));
  const latent = told.has("latent") ? Number(told.get("latent")) : null;
  return { latent, search: told.get("search") || "", sort: told.get("sort") || "number" };
}

function address(changed) {
  const told = { ...asked(), ...changed };
  const kept = new URLSearchParams();
  if (told.latent !== null) kept.set("latent", told.latent);
  if (told.search) kept.set("search", told.search);
  if (told.sort !== "number") kept.set("sort", told.sort);
  return `#${kept}`;
}

const lower = data.text.map((text) => (text || "").toLowerCase());
const BY = {
  number: (a, b) => a - b,
  rate: (a, b) => data.firings[b] - data.firings[a],
  maximum: (a, b) => data.maximum[b] - data.maximum[a],
  mass: (a, b) => data.mass[b] - data.mass[a],
  text: (a, b) => Number(data.text[a] === null) - Number(data.text[b] === null) || (lower[a] < lower[b] ? -1 : lower[a] > lower[b] ? 1 : 0),
  correlation: (a, b) => score(b, -2) - score(a, -2),
  worst: (a, b) => score(a, 2) - score(b, 2),
};

function score(latent, absent) {
  const value = (data.scores.correlation || [])[latent];
  return value === null || value === undefined ? absent : value;
}

function found({ search, sort }) {
  const words = search.trim().toLowerCase();
  const all = Array.from({ length: latents }, (_, latent) => latent);
  const kept = words ? all.filter((latent) => String(latent) === words || lower[latent].includes(words)) : all;
  return kept.sort(BY[sort] || BY.number);
}

let shown = [];
let last = null;

function fill(list, upTo) {
  const { latent: current } = asked();
  for (const latent of shown.slice(list.children.length, upTo)) {
    const text = data.text[latent];
    const line = element("a", { href: address({ latent }) },
      element("b", { textContent: latent }),
      element("span", { textContent: text === null ? "no sentence" : text, className: text === null ? "none" : "" }),
      element("em", { textContent: rate(data.rate[latent]) }));
    if (latent === current) line.setAttribute("aria-current", "true");
    list.append(element("li", {}, line));
  }
}

function showList(wanted) {
  const key = JSON.stringify([wanted.search, wanted.sort]);
  const list = at("list");
  if (key !== last) {
    last = key;
    shown = found(wanted);
    list.replaceChildren();
    list.scrollTop = 0;
    fill(list, CHUNK);
    const word = shown.length === 1 ? "latent" : "latents";
    at("count").textContent = shown.length === latents ? `${count(latents)} ${word}` : `${count(shown.length)} of ${count(latents)} latents`;
  }
  const place = shown.indexOf(wanted.latent);
  if (place >= list.children.length) fill(list, place + CHUNK);
  shown.slice(0, list.children.length).forEach((latent, i) => {
    const line = list.children[i].firstChild;
    line.href = address({ latent });
    if (latent === wanted.latent) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  });
  if (place >= 0) {
    const line = list.children[place];
    const top = line.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + line.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
  }
}

at("list").addEventListener("scroll", (event) => {
  const list = event.target;
  if (list.scrollTop + 2 * list.clientHeight > list.scrollHeight) fill(list, list.children.length + CHUNK);
});

function facts(latent) {
  const told = [
    ["fires at", `${rate(data.rate[latent])}${data.rate[latent] && data.rate[latent] < 0.1 ? " tokens" : data.rate[latent] ? " of tokens" : ""}`],
    ["firings", count(data.firings[latent])],
    ["largest activation", digits(data.maximum[latent])],
    ["mean where it fires", data.firings[latent] ? digits(data.mean[latent]) : "–"],
    ["mass", digits(data.mass[latent]), "How far it moves the output on average: its mean activation over all tokens, times the length of its row of W_dec"],
    ...Object.entries(data.scores).map(([name, values]) => [name, digits(values[latent])]),
  ];
  return element("dl", { className: "facts" }, ...told.map(([name, value, title = ""]) =>
    element("div", { title }, element("dt", { textContent: name }), element("dd", { textContent: value }))));
}

function histogram(latent) {
  const bins = data.histogram[latent];
  const [width, height, foot, top] = [420, 80, 14, 2];
  const most = Math.max(...bins);
  const step = width / bins.length;
  const edge = (bin) => digits(Number(((bin * data.maximum[latent]) / bins.length).toPrecision(3)));
  const bars = bins.map((firings, bin) => {
    // The root, so that the few strong firings are seen beside the many weak ones; a bar of one firing can be seen too.
    const tall = firings ? Math.max(1.5, height * Math.sqrt(firings / most)) : 0;
    const title = drawn("title", {}, `${edge(bin)} to ${edge(bin + 1)}: ${count(firings)} firings`);
    return drawn("rect", { x: bin * step + 0.5, y: top + height - tall, width: step - 1, height: tall }, title);
  });
  const y = top + height;
  return drawn("svg", { viewBox: `0 0 ${width} ${y + foot}`, role: "img", "aria-label": `Histogram of ${count(data.firings[latent])} activations` },
    ...bars, drawn("line", { x1: 0, x2: width, y1: y, y2: y }),
    drawn("text", { x: 0, y: y + 11 }, "0"), drawn("text", { x: width, y: y + 11, "text-anchor": "end" }, digits(data.maximum[latent])));
}

function tokens(title, told, row) {
  const lines = [];
  for (let i = 0; i < row.length; i += 2) {
    lines.push(element("tr", {}, element("td", {}, element("span", { className: "token", textContent: data.cells[row[i]] })),
      element("td", { textContent: signed(row[i + 1]), className: row[i + 1] < 0 ? "less" : "more" })));
  }
  return element("section", {}, element("h3", {}, title, " ", element("small", { textContent: told })), element("table", {}, ...lines));
}

// Names of sites without what all of them begin with: gpt_neox.layers.1.mlp is 1.mlp.
const parts = data.sites.map((site) => site.split("."));
const shared = parts.length > 1 ? parts[0].findIndex((part, i) => parts.some((other) => other[i] !== part)) : 0;
const short = parts.map((each) => each.slice(Math.max(0, shared)).join("."));

function connections(title, told, row) {
  const lines = [];
  for (let i = 0; i < row.length; i += 3) {
    const [site, latent, weight] = [data.sites[row[i]], row[i + 1], row[i + 2]];
    const link = element("a", { href: `../${encodeURIComponent(site)}/dashboards.html#latent=${latent}`, title: site, textContent: `${short[row[i]]} ${latent}` });
    lines.push(element("tr", {}, element("td", {}, link), element("td", { textContent: signed(weight), className: weight < 0 ? "less" : "more" })));
  }
  const table = lines.length ? element("table", {}, ...lines) : element("p", { className: "label", textContent: "no coder there" });
  return element("section", {}, element("h3", {}, title, " ", element("small", { textContent: told })), table);
}

function example([, place, row, start, cells, fires], scale) {
  const value = new Map();
  for (let i = 0; i < fires.length; i += 2) value.set(fires[i], fires[i + 1]);
  const text = element("p", { className: "text" });
  cells.forEach((cell, i) => {
    const token = element("span", { textContent: data.cells[cell] });
    if (value.has(i)) {
      token.title = digits(value.get(i));
      token.style.setProperty("--a", (0.12 + 0.88 * Math.min(1, value.get(i) / scale)).toFixed(2));
    }
    text.append(token);
  });
  return [element("p", { className: "from", textContent: `${data.documents[place]} · row ${row}, token ${start}` }), text];
}

const most = (windows) => windows.map((each) => Math.max(...each[5].filter((_, i) => i % 2)));

function group(latent, title, told, windows) {
  const maxima = most(windows), low = digits(Math.min(...maxima)), high = digits(Math.max(...maxima));
  const range = low === high ? `largest activation ${low}` : `largest activations ${low} to ${high}`;
  const heading = element("h3", {}, title, " ", element("small", { textContent: `${told}; ${range}` }));
  return [heading, ...windows.flatMap((window) => example(window, data.maximum[latent]))];
}

function windows(latent) {
  const made = [];
  const strongest = data.strongest[latent] || [];
  if (strongest.length) made.push(...group(latent, "Strongest windows", "of all in which it fires", strongest));
  for (let band = data.bands - 1; band >= 0; band--) {
    const drawn = data.examples[latent].filter((each) => each[0] === band);
    const end = data.bands === 1 ? "" : band === data.bands - 1 ? ", the highest" : band === 0 ? ", the lowest" : "";
    if (drawn.length) made.push(...group(latent, `Band ${band + 1} of ${data.bands}${end}`, "drawn at random", drawn));
  }
  return made;
}

function showDetail(latent) {
  const detail = at("detail");
  if (latent === null) {
    detail.replaceChildren(element("p", { className: "label", textContent: "No latent fits. Change the search, or choose one." }));
    return;
  }
  if (!Number.isInteger(latent) || latent < 0 || latent >= latents) {
    detail.replaceChildren(element("p", { className: "warning", textContent: `There is no such latent: they are numbered 0 to ${latents - 1}.` }));
    return;
  }
  const place = shown.indexOf(latent);
  const steps = element("span", { className: "steps" });
  if (place > 0) steps.append(element("a", { href: address({ latent: shown[place - 1] }), textContent: "← previous" }));
  if (place >= 0 && place + 1 < shown.length) steps.append(element("a", { href: address({ latent: shown[place + 1] }), textContent: "next →" }));
  const text = data.text[latent];
  const effects = {
    promoted: ["Promotes", "logit, less the mean"], suppressed: ["Suppresses", "logit, less the mean"],
    exciting: ["Excited by", "embedding, through the norm, on its encoder row"],
  };
  const wires = { sources: ["Sources", "latents before it"], targets: ["Targets", "latents after it"] };
  detail.replaceChildren(
    element("div", { className: "head" }, element("h2", { textContent: `Latent ${latent}` }), steps),
    element("p", { className: text === null ? "sentence none" : "sentence", dir: "auto", textContent: text === null ? "No sentence." : text }),
    element("p", { className: "label", textContent: text === null ? "" : `${data.words[latent]} words, by ${data.by[latent]}` }),
    facts(latent),
    ...(data.firings[latent] ? [element("h3", {}, "Activations ", element("small", { textContent: `where it fires; at most ${count(Math.max(...data.histogram[latent]))} in a bar, heights as square roots` })), histogram(latent)] : []),
    element("div", { className: "lists" },
      ...Object.entries(data.effects).map(([name, rows]) => tokens(...effects[name], rows[latent])),
      ...Object.entries(data.connections).map(([name, rows]) => connections(...wires[name], rows[latent]))),
    ...windows(latent),
  );
}

let before = null;

function show(follow) {
  const wanted = asked();
  if (at("search").value !== wanted.search) at("search").value = wanted.search;
  at("sort").value = wanted.sort;
  if (at("sort").selectedIndex < 0) at("sort").value = wanted.sort = "number";
  showList(wanted);
  // Where none is chosen the first of the list is shown, so that the page is never empty.
  const latent = wanted.latent === null && shown.length ? shown[0] : wanted.latent;
  showDetail(latent);
  // On a narrow screen the latent stands below the list.
  if (follow && latent !== before && matchMedia("(max-width: 46rem)").matches) at("detail").scrollIntoView();
  before = latent;
}

at("search").addEventListener("input", (event) => { history.replaceState(null, "", address({ search: event.target.value })); show(false); });
at("sort").addEventListener("change", (event) => { history.replaceState(null, "", address({ sort: event.target.value })); show(false); });
addEventListener("hashchange", () => show(true));
show(asked().latent !== null);
document.documentElement.dataset.ready = "true";
