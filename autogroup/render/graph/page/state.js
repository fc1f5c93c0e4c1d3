// What the page knows and what is chosen. Views call `watch` and are told what has changed.

const data = JSON.parse(byId("data").textContent);
const parameters = data.parameters;
const verdicts = new Map(data.verdicts.map((verdict) => [verdict.name, verdict]));

parameters.forEach((parameter, index) => {
  parameter.index = index;
  parameter.role ??= "other";
  parameter.reason ??= "";
  parameter.norms = [];
  parameter.symmetries = [];
});
const numbers = new Map(parameters.map((parameter) => [parameter.name, parameter.index]));
data.relations.forEach(([parameter, norm]) => parameters[parameter].norms.push(norm));
for (const symmetry of data.symmetries) {
  symmetry.members = symmetry.members.map((member) => (Array.isArray(member) ? member : [member, "", "α"]));
  new Set(symmetry.members.map((member) => member[0])).forEach((index) => parameters[index].symmetries.push(symmetry));
}
for (const parameter of parameters) {
  const norms = parameter.norms.flatMap((norm) => data.norms[norm]);
  const { name, verdict, role, reason, partition = "", shape, aliases = [] } = parameter;
  const words = [name, verdict, role, reason, partition, shape, times(shape), ...aliases, ...norms];
  parameter.words = words.join("\n").toLowerCase();
}

const chosen = { words: [], verdicts: new Set(), module: "", selected: null, view: "table", sort: "model", down: false };
const watchers = [];

const watch = (watcher) => watchers.push(watcher);

// `change` is the part of `chosen` that is new: "filter", "sort", "selected" or "view".
function choose(values, change) {
  Object.assign(chosen, values);
  watchers.forEach((watcher) => watcher(change));
}

const within = (name, module) => module === "" || name.startsWith(`${module}.`);

function found(parameter, anyVerdict = false) {
  if (!anyVerdict && chosen.verdicts.size && !chosen.verdicts.has(parameter.verdict)) return false;
  return within(parameter.name, chosen.module) && chosen.words.every((word) => parameter.words.includes(word));
}

function select(index) {
  choose({ selected: index }, "selected");
}
