"use strict";
// The API's description, shown. Everything that came from elsewhere is set as text, never as markup.

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

let api;
const at = (ref) => ref.slice(2).split("/").reduce((value, step) => value[step.replaceAll("~1", "/").replaceAll("~0", "~")], api);
const nameOf = (ref) => ref.slice(ref.lastIndexOf("/") + 1);

const typeOf = (schema) => {
  if (schema === true || schema === undefined) return "anything";
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  const several = schema.oneOf || schema.anyOf;
  if (several) return several.map(typeOf).join(" | ");
  const types = [schema.type || "anything"].flat().join(" | ");
  return schema.items ? `${types} of ${typeOf(schema.items)}` : types;
};

const limits = (schema) =>
  ["format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "default"]
    .filter((word) => schema[word] !== undefined)
    .map((word) => `${word} ${JSON.stringify(schema[word])}`)
    .join(", ");

// What lies below a schema, made when it is opened: schemas may name each other in circles.
const below = (schema) => {
  while (schema && schema.$ref) schema = at(schema.$ref);
  if (!schema || typeof schema !== "object") return null;
  if (schema.properties) {
    const required = new Set(schema.required || []);
    const list = make("ul");
    for (const [name, field] of Object.entries(schema.properties)) {
      const line = make("li", {}, make("code", {}, name), ` ${typeOf(field)}`, required.has(name) ? " · required" : "");
      const told = [field.description, limits(field)].filter(Boolean).join(" — ");
      if (told) line.append(make("div", { class: "soft" }, told));
      const more = opened(field);
      if (more) line.append(more);
      list.append(line);
    }
    return list;
  }
  const several = schema.oneOf || schema.anyOf || (schema.items && [schema.items]);
  const within = (several || []).map((one) => opened(one)).filter(Boolean);
  return within.length ? make("div", {}, ...within) : null;
};

const opened = (schema) => {
  let target = schema;
  while (target && target.$ref) target = at(target.$ref);
  if (!target || !(target.properties || target.oneOf || target.anyOf || target.items)) return null;
  const details = make("details", {}, make("summary", {}, typeOf(schema)));
  details.addEventListener("toggle", () => {
    const inner = details.childElementCount === 1 && below(schema);
    if (inner) details.append(make("div", { class: "in" }, inner));
  });
  return details;
};

const operation = (method, path, told) => {
  const summary = make("summary", {}, make("b", {}, method.toUpperCase()), make("code", {}, path), " ", make("span", {}, told.summary));
  const inside = make("div", { class: "in" });
  const who = told["x-viworks-permission"];
  inside.append(make("p", { class: "soft" }, who ? `Needs the permission ${who}.` : "Needs no token."));
  if (told.parameters.length) {
    const list = make("ul");
    for (const one of told.parameters) {
      const line = `${one.in} · ${typeOf(one.schema)}${one.required ? " · required" : ""} · ${one.description || ""}`;
      list.append(make("li", {}, make("code", {}, one.name), ` ${line}`));
    }
    inside.append(make("h3", {}, "Parameters"), list);
  }
  if (told.requestBody) {
    inside.append(make("h3", {}, "Body"));
    for (const body of Object.values(told.requestBody.content)) inside.append(opened(body.schema) || typeOf(body.schema));
  }
  inside.append(make("h3", {}, "Answers"));
  for (const [status, answer] of Object.entries(told.responses)) {
    const whole = answer.$ref ? at(answer.$ref) : answer;
    inside.append(make("div", {}, make("code", {}, status), ` ${whole.description}`));
    for (const body of answer.$ref ? [] : Object.values(whole.content || {})) inside.append(opened(body.schema) || "");
  }
  return make("details", { id: told.operationId, "data-words": `${method} ${path} ${told.summary}`.toLowerCase() }, summary, inside);
};

const show = () => {
  const main = document.querySelector("main");
  document.querySelector("h1").textContent = `${api.info.title} ${api.info.version}`;
  const sections = new Map(api.tags.map(({ name }) => [name, make("section", {}, make("h2", {}, name))]));
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, told] of Object.entries(methods)) sections.get(told.tags[0]).append(operation(method, path, told));
  main.replaceChildren(...sections.values());
  const verbs = make("section", {}, make("h2", {}, "loaded verbs"));
  const mapping = (api.components.schemas.NewCommand.discriminator || { mapping: {} }).mapping;
  for (const verb of Object.keys(mapping)) {
    const words = `${verb} ${at(mapping[verb]).description}`;
    const summary = make("summary", {}, make("code", {}, verb), " ", make("span", {}, at(mapping[verb]).description));
    const inside = make("div", { class: "in" }, make("h3", {}, "Arguments"));
    inside.append(opened({ $ref: `#/components/schemas/${verb}.args` }) || "none", make("h3", {}, "Result"));
    inside.append(opened({ $ref: `#/components/schemas/${verb}.result` }) || "anything");
    verbs.append(make("details", { "data-words": words.toLowerCase() }, summary, inside));
  }
  const errors = make("section", {}, make("h2", {}, "errors"), make("ul"));
  for (const { code, status, title } of api["x-viworks-errors"])
    errors.lastChild.append(make("li", { id: code }, make("code", {}, code), ` ${status} · ${title}`));
  main.append(verbs, errors);
  const named = location.hash && document.getElementById(location.hash.slice(1));
  if (named) {
    named.open = true;
    named.scrollIntoView();
  }
};

document.querySelector("input").addEventListener("input", ({ target }) => {
  const wanted = target.value.toLowerCase();
  for (const one of document.querySelectorAll("[data-words]")) one.hidden = !one.dataset.words.includes(wanted);
});

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then((told) => { api = told; show(); })
  .catch((error) => { document.querySelector("main").textContent = `The description cannot be shown: ${error}`; });
