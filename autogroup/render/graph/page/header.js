// The head of the page: how many of each verdict there are, search, theme.

function showHeader() {
  byId("headline").append(data.about[0].split(":")[0]);
  const counts = countVerdicts((parameter) => true);
  for (const [name, { meaning }] of verdicts) {
    if (!counts.has(name)) continue;
    byId("share").append(shareOf(name, counts.get(name)));
    const chip = element(
      "button",
      { type: "button", class: "chip", "data-verdict": name, "aria-pressed": "false", title: meaning, onclick: toggle },
      element("i", { class: "dot", "data-verdict": name }),
      name,
      element("b", {}, String(counts.get(name))),
    );
    byId("chips").append(chip);
  }
  byId("search").addEventListener("input", (event) => {
    choose({ words: event.target.value.toLowerCase().split(/\s+/).filter(Boolean) }, "filter");
  });
  showTheme();
  watch((change) => change === "filter" && updateChips());
}

function shareOf(name, count) {
  const part = element("i", { "data-verdict": name });
  part.style.flexGrow = count; // through the object model, which the content policy allows
  return part;
}

function countVerdicts(test) {
  const counts = new Map();
  for (const parameter of parameters) {
    if (test(parameter)) counts.set(parameter.verdict, (counts.get(parameter.verdict) ?? 0) + 1);
  }
  return counts;
}

function toggle(event) {
  const name = event.currentTarget.dataset.verdict;
  const wanted = new Set(chosen.verdicts);
  if (!wanted.delete(name)) wanted.add(name);
  choose({ verdicts: wanted }, "filter");
}

function updateChips() {
  const counts = countVerdicts((parameter) => found(parameter, true));
  for (const chip of byId("chips").children) {
    const name = chip.dataset.verdict;
    chip.setAttribute("aria-pressed", chosen.verdicts.has(name));
    chip.classList.toggle("off", chosen.verdicts.size > 0 && !chosen.verdicts.has(name));
    chip.querySelector("b").textContent = counts.get(name) ?? 0;
  }
}

function showTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const label = () => {
    const other = now() === "dark" ? "light" : "dark";
    button.textContent = now() === "dark" ? "☀" : "☾";
    button.setAttribute("aria-label", `Switch to the ${other} theme`);
    button.title = `Switch to the ${other} theme`;
  };
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    label();
  });
  dark.addEventListener("change", label);
  label();
}
