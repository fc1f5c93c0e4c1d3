// The module tree. Branches are native <details>, filled when they are first opened; a click on a name narrows all views.

function showTree() {
  const nav = byId("tree");
  nav.append(element("h2", {}, "Modules"), row(data.tree, "(model)"), inside(data.tree));
  watch((change) => change === "filter" && markModule());
  markModule();
}

function total(node) {
  node.total ??= (node.parameters?.length ?? 0) + node.children.reduce((sum, child) => sum + total(child), 0);
  return node.total;
}

function verdictsIn(node) {
  if (node.verdicts) return node.verdicts;
  const counts = new Map();
  for (const index of node.parameters ?? []) {
    counts.set(parameters[index].verdict, (counts.get(parameters[index].verdict) ?? 0) + 1);
  }
  for (const child of node.children) {
    for (const [name, count] of verdictsIn(child)) counts.set(name, (counts.get(name) ?? 0) + count);
  }
  node.verdicts = counts;
  return counts;
}

function row(node, label) {
  const share = element("span", { class: "share", "aria-hidden": "true" });
  for (const name of verdicts.keys()) {
    if (verdictsIn(node).has(name)) share.append(shareOf(name, verdictsIn(node).get(name)));
  }
  const count = element("span", { class: "count" }, node.alike ? `${node.alike} alike` : total(node).toLocaleString("en"));
  if (node.alike) return element("span", { class: "module folded" }, element("span", {}, label), share, count);
  const narrow = (event) => {
    event.preventDefault();
    const branch = event.currentTarget.closest("summary")?.parentElement;
    if (branch) branch.open = !branch.open || chosen.module !== node.name; // a second click on the same name closes it
    choose({ module: node.name }, "filter");
  };
  const attributes = { type: "button", class: "module", "data-module": node.name, title: node.name, onclick: narrow };
  return element("button", attributes, element("span", {}, label), share, count);
}

function inside(node) {
  const list = element("ul");
  for (const child of node.children) {
    if (!child.children.length) {
      list.append(element("li", { class: "leaf" }, row(child, child.label)));
      continue;
    }
    const branch = element("details", {}, element("summary", {}, row(child, child.label)));
    branch.addEventListener("toggle", () => branch.lastChild.tagName === "UL" || fill(branch, child));
    list.append(element("li", {}, branch));
  }
  return list;
}

function fill(branch, node) {
  branch.append(inside(node));
  markModule();
}

function markModule() {
  for (const button of byId("tree").querySelectorAll("button.module")) {
    button.setAttribute("aria-current", button.dataset.module === chosen.module);
  }
}
