// Ties the views together: tabs, keys, and the address, in which `#param=NAME&view=graph` is a link to a parameter.

const tabs = { table: byId("tab-table"), graph: byId("tab-graph") };

function showView() {
  for (const [name, tab] of Object.entries(tabs)) {
    tab.setAttribute("aria-selected", name === chosen.view);
    tab.tabIndex = name === chosen.view ? 0 : -1;
  }
  byId("table").hidden = chosen.view !== "table";
  byId("picture").hidden = chosen.view !== "graph";
}

function writeAddress() {
  const parts = [];
  if (chosen.selected !== null) parts.push(`param=${encodeURIComponent(parameters[chosen.selected].name)}`);
  if (chosen.view !== "table") parts.push(`view=${chosen.view}`);
  const hash = parts.length ? `#${parts.join("&")}` : "";
  if (hash !== location.hash) history.replaceState(null, "", hash || location.href.split("#")[0]);
}

function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  const selected = numbers.get(wanted.get("param")) ?? null;
  if (selected !== chosen.selected) select(selected);
  choose({ view: wanted.get("view") === "graph" ? "graph" : "table" }, "view");
}

function start() {
  watch((change) => {
    if (change === "view") showView();
    if (change === "view" || change === "selected") writeAddress();
  });
  showHeader();
  showTree();
  showTable();
  showPicture();
  showDetail();
  for (const [name, tab] of Object.entries(tabs)) tab.addEventListener("click", () => choose({ view: name }, "view"));
  byId("bar").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    choose({ view: chosen.view === "table" ? "graph" : "table" }, "view");
    tabs[chosen.view].focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target === byId("search");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "Escape" && !typing) select(null);
  });
  addEventListener("hashchange", readAddress);
  readAddress();
}

start();
