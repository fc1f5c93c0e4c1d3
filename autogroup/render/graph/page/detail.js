// The panel beside: all that is known of the selected parameter.

const MOST_MEMBERS = 8;

function showDetail() {
  watch((change) => change === "selected" && fillDetail());
  fillDetail();
}

function fillDetail() {
  const panel = byId("detail");
  panel.scrollTop = 0;
  if (chosen.selected === null) {
    panel.replaceChildren(...overview());
    return;
  }
  const parameter = parameters[chosen.selected];
  const { verdict } = parameter;
  panel.replaceChildren(
    element(
      "header",
      {},
      element("span", { class: "badge", "data-verdict": verdict }, verdict, parameter.eps ? " *" : ""),
      element("button", { type: "button", "aria-label": "Close", title: "Close (Esc)", onclick: () => select(null) }, "×"),
    ),
    element("h2", {}, parameter.name),
    element("p", { class: "lead" }, sentence(parameter.reason)),
    element("p", { class: "meaning" }, verdicts.get(verdict).meaning),
    facts(parameter),
    ...pathOf(parameter),
    ...symmetriesOf(parameter),
  );
}

const sentence = (text) => text && text[0].toUpperCase() + text.slice(1);

function overview() {
  return [
    element("h2", { class: "plain" }, "About this model"),
    element("ul", { class: "about" }, ...data.about.map((text) => element("li", {}, text))),
    element("h3", {}, "Verdicts"),
    element("dl", { class: "meanings" }, ...data.verdicts.filter(({ name }) => parameters.some((p) => p.verdict === name)).flatMap(({ name, meaning }) => [
      element("dt", {}, element("i", { class: "dot", "data-verdict": name }), name),
      element("dd", {}, meaning),
    ])),
    element("p", { class: "hint" }, "Choose a parameter to see what led to its verdict. ", element("kbd", {}, "/"), " searches, ", element("kbd", {}, "↑"), " ", element("kbd", {}, "↓"), " move through the table, ", element("kbd", {}, "Esc"), " closes."),
  ];
}

function facts(parameter) {
  const list = element("dl", { class: "facts" });
  const add = (term, ...value) => list.append(element("dt", {}, term), element("dd", {}, ...value));
  add("Shape", element("span", {}, times(parameter.shape)), element("small", {}, plural(parameter.elements, "element")));
  add("Role", parameter.role.replaceAll("_", " "));
  if (parameter.partition) add("Partition", element("code", {}, parameter.partition), element("small", {}, plural(parameter.blocks, "block")));
  if (parameter.keys) add("Group keys", ...parameter.keys.split(/, (?=channel_groups)/).map((key) => element("code", {}, key)));
  for (const norm of parameter.norms) {
    const [module, operator, source] = data.norms[norm];
    const where = [operator, source].map((text) => element("small", { class: "own" }, text));
    add("Norm", element("code", {}, module || "(model)"), ...where);
  }
  if (parameter.aliases) add("Tied with", ...parameter.aliases.map((name) => element("code", {}, name)));
  for (const split of parameter.splits ?? []) add("Part", split.replace(/^part: /, ""));
  add("Depth", element("span", {}, plural(parameter.depth, "layer")), element("small", {}, "before its first use"));
  if (parameter.frozen) add("Training", "frozen: requires no gradient");
  if (parameter.eps) add("Exactness", "holds up to an eps written in the model's own code");
  return list;
}

function pathOf(parameter) {
  const steps = data.paths[parameter.path].map((step) => data.steps[step]);
  if (!steps.length) return [];
  const list = element("ol", { id: "path" });
  for (const [operator, module, source, note] of steps) {
    const parts = operator.split(".");
    const short = parts.length === 3 ? parts[1] : operator;
    list.append(
      element(
        "li",
        {},
        element("code", { title: operator }, short),
        element("span", { class: "where" }, "in ", element("b", {}, module || "(model)")),
        source && element("span", { class: "source" }, source),
        note && element("p", {}, sentence(note)),
      ),
    );
  }
  list.lastChild.classList.add("last");
  list.lastChild.setAttribute("data-verdict", parameter.verdict);
  list.lastChild.append(element("p", { class: "ending" }, sentence(verdicts.get(parameter.verdict).ending)));
  return [element("h3", {}, "Path"), list];
}

function symmetriesOf(parameter) {
  if (!parameter.symmetries.length) return [];
  return [element("h3", {}, "Rescaled together"), ...parameter.symmetries.map((symmetry) => oneSymmetry(parameter, symmetry))];
}

function oneSymmetry(parameter, symmetry) {
  const own = (member) => member[0] !== parameter.index;
  const members = [...symmetry.members].sort((a, b) => own(a) - own(b));
  const list = element("ul");
  const show = (some) => list.append(...some.map((member) => element("li", {}, memberLink(member))));
  show(members.slice(0, MOST_MEMBERS));
  const copies = symmetry.count > 1 ? `, ${symmetry.count} independent copies` : "";
  const rest = members.slice(MOST_MEMBERS);
  const more = rest.length && element("button", { type: "button", class: "more", onclick: (event) => { event.target.remove(); show(rest); } }, `${rest.length} more`);
  return element("div", { class: "symmetry" }, element("p", {}, element("b", {}, symmetry.kind), copies, symmetry.eps ? ", up to an eps" : ""), list, more || "");
}

function memberLink([index, part, power]) {
  const { name, verdict } = parameters[index];
  const link = element("button", { type: "button", class: "link", onclick: () => select(index) }, name, element("span", {}, part));
  return [element("i", { class: "dot", "data-verdict": verdict }), link, element("span", { class: "power" }, "× ", power)];
}
