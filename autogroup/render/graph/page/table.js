// The table. Only the rows in view are in the document, so that five thousand cost what fifty do.

const ROW_HEIGHT = 32; // as in the style sheet
const SPARE_ROWS = 12;

const columns = [
  { key: "name", label: "Parameter" },
  { key: "verdict", label: "Verdict" },
  { key: "elements", label: "Shape" },
  { key: "role", label: "Role" },
  { key: "partition", label: "Partition" },
  { key: "reason", label: "Reason" },
];
const table = { rows: [], first: -1, last: -1 };

function showTable() {
  const head = element("tr");
  for (const { key, label } of columns) {
    const button = element("button", { type: "button", onclick: () => sortBy(key) }, label);
    head.append(element("th", { scope: "col", class: key, "data-key": key }, button));
  }
  table.above = element("tr", { "aria-hidden": "true" });
  table.below = element("tr", { "aria-hidden": "true" });
  table.body = element("tbody", {}, table.above, table.below);
  table.empty = element("p", { class: "empty" }, "No parameter fits. ", element("button", { type: "button", onclick: showAll }, "Show all"));
  table.grid = element("table", {}, element("thead", {}, head), table.body);
  const attributes = { id: "scroll", tabindex: 0, "aria-label": "Parameters: arrow keys choose a row" };
  table.scroll = element("div", attributes, table.grid, table.empty);
  byId("table").append(table.scroll);
  table.scroll.addEventListener("scroll", () => drawRows());
  table.scroll.addEventListener("keydown", moveByKey);
  table.body.addEventListener("click", (event) => {
    const line = event.target.closest("tr[data-index]");
    if (line) select(Number(line.dataset.index));
  });
  new ResizeObserver(() => drawRows()).observe(table.scroll);
  watch((change) => {
    if (change === "filter" || change === "sort") fillTable();
    else if (change === "selected") revealRow();
    else drawRows();
  });
  fillTable();
}

function sortBy(key) {
  if (chosen.sort !== key) choose({ sort: key, down: false }, "sort");
  else if (!chosen.down) choose({ down: true }, "sort");
  else choose({ sort: "model", down: false }, "sort");
}

function showAll() {
  byId("search").value = "";
  choose({ words: [], verdicts: new Set(), module: "" }, "filter");
}

function fillTable() {
  const rows = parameters.filter((parameter) => found(parameter));
  if (chosen.sort !== "model") {
    const order = [...verdicts.keys()];
    const value = { verdict: (p) => order.indexOf(p.verdict), elements: (p) => p.elements }[chosen.sort];
    const text = (p) => p[chosen.sort] ?? "";
    const { compare } = new Intl.Collator("en", { numeric: true });
    rows.sort(value ? (a, b) => value(a) - value(b) : (a, b) => compare(text(a), text(b)));
    if (chosen.down) rows.reverse();
  }
  table.rows = rows;
  for (const head of table.grid.querySelectorAll("th")) {
    const sorted = head.dataset.key === chosen.sort ? (chosen.down ? "descending" : "ascending") : "none";
    head.setAttribute("aria-sort", sorted);
  }
  table.grid.setAttribute("aria-rowcount", rows.length + 1);
  table.empty.hidden = rows.length > 0;
  const where = chosen.module ? ` in ${chosen.module}` : "";
  byId("shown").textContent = rows.length === parameters.length ? plural(rows.length, "parameter") : `${rows.length.toLocaleString("en")} of ${plural(parameters.length, "parameter")}${where}`;
  table.first = -1;
  drawRows();
}

function drawRows() {
  const { scroll, rows } = table;
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
  const last = Math.min(rows.length, first + Math.ceil(scroll.clientHeight / ROW_HEIGHT) + 2 * SPARE_ROWS);
  if (first !== table.first || last !== table.last) {
    Object.assign(table, { first, last });
    table.above.style.height = `${first * ROW_HEIGHT}px`;
    table.below.style.height = `${(rows.length - last) * ROW_HEIGHT}px`;
    const lines = rows.slice(first, last).map((parameter, offset) => line(parameter, first + offset));
    table.body.replaceChildren(table.above, ...lines, table.below);
  }
  for (const tr of table.body.children) {
    if (tr.dataset.index) tr.setAttribute("aria-selected", Number(tr.dataset.index) === chosen.selected);
  }
}

function line(parameter, position) {
  const { name, verdict, role, reason, partition = "" } = parameter;
  const at = name.lastIndexOf(".") + 1;
  const badge = [element("i", { class: "dot", "data-verdict": verdict }), verdict, parameter.eps ? "*" : ""];
  const attributes = { "data-index": parameter.index, "aria-rowindex": position + 2 };
  return element(
    "tr",
    attributes,
    element("td", { class: "name", title: name }, element("div", {}, element("span", {}, name.slice(0, at)), element("b", {}, name.slice(at)))),
    element("td", { class: "verdict" }, ...badge),
    element("td", { class: "elements" }, times(parameter.shape)),
    element("td", { class: "role" }, role.replaceAll("_", " ")),
    element("td", { class: "partition", title: partition }, partition),
    element("td", { class: "reason", title: reason }, reason),
  );
}

function moveByKey(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, Home: -table.rows.length, End: table.rows.length };
  if (!(event.key in steps) || !table.rows.length) return;
  event.preventDefault();
  const now = table.rows.findIndex((parameter) => parameter.index === chosen.selected);
  const next = now < 0 ? 0 : Math.max(0, Math.min(table.rows.length - 1, now + steps[event.key]));
  select(table.rows[next].index);
}

// Scroll so that the selected row is in view.
function revealRow() {
  const position = table.rows.findIndex((parameter) => parameter.index === chosen.selected);
  const { scroll } = table;
  if (position >= 0 && scroll.clientHeight) {
    const top = position * ROW_HEIGHT;
    const room = scroll.clientHeight - 2 * ROW_HEIGHT; // the head of the table stays in place
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (top > scroll.scrollTop + room) scroll.scrollTop = top - room;
  }
  drawRows();
}
