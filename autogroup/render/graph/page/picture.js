// The graph: cards of modules with their parameters, norms, and the relations between them. Python has laid it out.

const view = { x: 0, y: 0, scale: 1, drawn: false };
const plan = data.picture;
const MOST_LINES = 40; // to partners: beyond that only the partners themselves are marked
const places = { parameters: new Map(), norms: new Map() };

function showPicture() {
  watch((change) => {
    if (chosen.view !== "graph") return;
    if (!view.drawn) drawPicture();
    if (change === "filter") fit(shownCards());
    if (change !== "sort") markPicture();
    if (change === "selected") reveal();
  });
}

function drawPicture() {
  view.drawn = true;
  const frames = shape("g");
  const lines = shape("g", { class: "lines" });
  const nodes = shape("g");
  view.marks = shape("g", { class: "marks" });
  view.stage = shape("g", {}, frames, lines, nodes, view.marks);
  view.svg = shape("svg", { tabindex: 0, role: "img", "aria-label": "Graph of parameters and norms. The table shows the same." }, view.stage);
  for (const card of plan.cards) drawCard(card, frames, nodes);
  for (const [parameter, norm] of data.relations) {
    const attributes = { d: curve(parameter, norm), "data-verdict": parameters[parameter].verdict, "data-from": parameter };
    lines.append(shape("path", attributes));
  }
  byId("picture").append(view.svg, legend(), zoomButtons());
  listen();
  fit(shownCards());
  if (chosen.selected !== null && view.scale < 0.6) zoomTo(chosen.selected, 1);
}

function drawCard(card, frames, nodes) {
  const { cardWidth, row, head, pad, parameterWidth, normWidth, letter } = plan;
  const name = card.name || "(model)";
  const frame = { x: card.x, y: card.y, width: cardWidth, height: card.height, rx: 10, class: "card" };
  const title = shape("text", { x: card.x + pad, y: card.y + 21, class: "title" }, shorten(name, Math.floor(cardWidth / 8)));
  frames.append(shape("rect", frame, shape("title", {}, name)), title);
  const inCard = (name) => (card.name && within(name, card.name) ? name.slice(card.name.length + 1) : name);
  card.parameters.forEach((index, position) => {
    const place = { x: card.x + pad, y: card.y + head + position * row, width: parameterWidth };
    places.parameters.set(index, place);
    nodes.append(parameterNode(parameters[index], place, inCard(parameters[index].name)));
  });
  for (const [norm, position] of card.norms) {
    const [module, operator] = data.norms[norm];
    const place = { x: card.x + cardWidth - pad - normWidth, y: card.y + head + position * row, width: normWidth };
    places.norms.set(norm, place);
    const label = module === card.name ? operator : inCard(module) || operator;
    const box = shape("rect", { x: place.x, y: place.y + 2, width: normWidth, height: row - 4, rx: (row - 4) / 2 });
    const text = shape("text", { x: place.x + normWidth / 2, y: place.y + row / 2 + 4 }, shorten(label, Math.floor((normWidth - 16) / letter)));
    const tip = shape("title", {}, `${operator} in ${module || "(model)"}`);
    nodes.append(shape("g", { class: "norm", "data-norm": norm }, tip, box, text));
  }
}

function parameterNode(parameter, place, label) {
  const { row } = plan;
  const size = times(parameter.shape);
  const room = Math.floor((place.width - plan.margin - size.length * plan.digit) / plan.letter + 0.01);
  const middle = place.y + row / 2 + 4;
  return shape(
    "g",
    { class: "parameter", "data-verdict": parameter.verdict, "data-index": parameter.index },
    shape("title", {}, `${parameter.name}: ${parameter.verdict}`),
    shape("rect", { x: place.x, y: place.y + 2, width: place.width, height: row - 4, rx: 5, class: "box" }),
    shape("rect", { x: place.x, y: place.y + 2, width: 5, height: row - 4, rx: 2, class: "edge" }),
    shape("text", { x: place.x + 13, y: middle }, shorten(label, room)),
    shape("text", { x: place.x + place.width - 8, y: middle, class: "size" }, size),
  );
}

const shorten = (text, most) => (text.length <= most ? text : `…${text.slice(text.length - most + 1)}`);

function curve(parameter, norm) {
  const from = places.parameters.get(parameter);
  const to = places.norms.get(norm);
  return bend(from.x + from.width, from.y, to.x, to.y);
}

function bend(x1, y1, x2, y2) {
  const middle = plan.row / 2;
  const pull = Math.max(28, Math.abs(x2 - x1) / 2);
  return `M${x1} ${y1 + middle}C${x1 + pull} ${y1 + middle} ${x2 - pull} ${y2 + middle} ${x2} ${y2 + middle}`;
}

// Fade what the filter leaves out, and mark the selected parameter with all that hangs on it.
function markPicture() {
  const related = new Set();
  const norms = new Set();
  const selected = chosen.selected === null ? null : parameters[chosen.selected];
  view.marks.replaceChildren();
  if (selected) {
    selected.norms.forEach((norm) => norms.add(norm));
    selected.symmetries.forEach((symmetry) => symmetry.members.forEach(([index]) => related.add(index)));
    related.delete(selected.index);
    for (const norm of norms) view.marks.append(shape("path", { d: curve(selected.index, norm), class: "relation" }));
    const from = places.parameters.get(selected.index);
    for (const index of related.size <= MOST_LINES ? related : []) {
      const to = places.parameters.get(index);
      const side = 46 + Math.abs(to.y - from.y) / 12;
      const [y1, y2] = [from.y + plan.row / 2, to.y + plan.row / 2];
      const d = from.x === to.x ? `M${from.x} ${y1}C${from.x - side} ${y1} ${to.x - side} ${y2} ${to.x} ${y2}` : to.x > from.x ? bend(from.x + from.width, from.y, to.x, to.y) : bend(to.x + to.width, to.y, from.x, from.y);
      view.marks.append(shape("path", { d, class: "symmetry" }));
    }
  }
  const shown = parameters.map((parameter) => found(parameter));
  for (const node of view.stage.querySelectorAll(".parameter")) {
    const index = Number(node.dataset.index);
    node.classList.toggle("out", !shown[index]);
    node.classList.toggle("selected", index === chosen.selected);
    node.classList.toggle("related", related.has(index));
  }
  for (const node of view.stage.querySelectorAll(".norm")) node.classList.toggle("selected", norms.has(Number(node.dataset.norm)));
  for (const path of view.stage.querySelectorAll(".lines path")) path.classList.toggle("out", !shown[Number(path.dataset.from)]);
}

function shownCards() {
  const cards = plan.cards.filter((card) => card.parameters.some((index) => found(parameters[index])));
  return cards.length ? cards : plan.cards;
}

// Bring some cards into view, all of them if there is room.
function fit(cards) {
  const box = view.svg.getBoundingClientRect();
  if (!box.width || !cards.length) return;
  const [width, height] = [box.width, box.height - 40]; // above the legend
  const left = Math.min(...cards.map((card) => card.x));
  const top = Math.min(...cards.map((card) => card.y));
  const right = Math.max(...cards.map((card) => card.x)) + plan.cardWidth;
  const bottom = Math.max(...cards.map((card) => card.y + card.height));
  const margin = 16;
  const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top), 1.25);
  place((width - (right - left) * scale) / 2 - left * scale, (height - (bottom - top) * scale) / 2 - top * scale, scale);
}

// Move the selected parameter into view if it is outside.
function reveal() {
  if (chosen.selected === null) return;
  const spot = places.parameters.get(chosen.selected);
  const { width, height } = view.svg.getBoundingClientRect();
  const [x, y] = [spot.x * view.scale + view.x, spot.y * view.scale + view.y];
  const inside = x > 0 && y > 0 && x + spot.width * view.scale < width && y + plan.row * view.scale < height;
  if (!inside) zoomTo(chosen.selected, view.scale);
}

function zoomTo(parameter, scale) {
  const spot = places.parameters.get(parameter);
  const { width, height } = view.svg.getBoundingClientRect();
  place(width / 2 - (spot.x + plan.cardWidth / 2) * scale, height / 2 - spot.y * scale, scale);
}

function place(x, y, scale) {
  Object.assign(view, { x, y, scale });
  view.stage.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  view.svg.classList.toggle("far", scale < 0.5);
  view.svg.classList.toggle("map", scale < 0.3);
}

function zoom(factor, x, y) {
  const box = view.svg.getBoundingClientRect();
  const [px, py] = [x ?? box.width / 2, y ?? box.height / 2];
  const scale = Math.min(4, Math.max(0.03, view.scale * factor));
  place(px - ((px - view.x) * scale) / view.scale, py - ((py - view.y) * scale) / view.scale, scale);
}

function listen() {
  const { svg } = view;
  let drag = null;
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: false };
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drag || !event.buttons) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    if (!drag.moved) svg.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, moved: true };
    place(view.x + dx, view.y + dy, view.scale);
  });
  svg.addEventListener("click", (event) => {
    if (drag?.moved) return;
    const node = event.target.closest(".parameter");
    const norm = event.target.closest(".norm");
    if (node) select(Number(node.dataset.index));
    else if (norm) select(data.relations.find((relation) => relation[1] === Number(norm.dataset.norm))[0]);
  });
  svg.addEventListener("dblclick", (event) => {
    const box = svg.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left - view.x) / view.scale, (event.clientY - box.top - view.y) / view.scale];
    const card = plan.cards.find((c) => x > c.x && x < c.x + plan.cardWidth && y > c.y && y < c.y + c.height);
    fit(card ? [card] : plan.cards);
  });
  const keys = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  svg.addEventListener("keydown", (event) => {
    if (event.key in keys) place(view.x + keys[event.key][0], view.y + keys[event.key][1], view.scale);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit(plan.cards);
    else return;
    event.preventDefault();
  });
}

function legend() {
  const list = element("ul", { id: "legend", "aria-label": "Legend" });
  for (const name of verdicts.keys()) {
    if (!parameters.some((parameter) => parameter.verdict === name)) continue;
    list.append(element("li", {}, element("i", { class: "dot", "data-verdict": name }), name));
  }
  if (data.relations.length) list.append(element("li", {}, element("i", { class: "dot norm" }), "norm that absorbs the scale"));
  if (data.symmetries.length) list.append(element("li", {}, element("i", { class: "dash" }), "rescaled together"));
  return list;
}

function zoomButtons() {
  const button = (label, text, action) => element("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
  return element("div", { id: "zoom" }, button("Zoom in", "+", () => zoom(1.4)), button("Zoom out", "−", () => zoom(0.7)), button("Show everything", "⤢", () => fit(plan.cards)));
}
