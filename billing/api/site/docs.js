"use strict";
// Lists what openapi.json describes, and sends what is typed. The token goes into a cookie that no script reads; `csrf` proves to the
// server that a change comes from this page.
let csrf = null;

const el = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const resolved = (schema, schemas) => (schema && schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema) || {};

function example(schema, schemas, depth = 0) {
  const it = resolved(schema, schemas);
  if (it.default !== undefined) return it.default;
  if (it.examples) return it.examples[0];
  if (it.enum) return it.enum[0];
  if (it.anyOf) return it.anyOf.some((each) => each.type === "null") ? null : example(it.anyOf[0], schemas, depth);
  if (it.type === "array") return depth > 3 ? [] : [example(it.items, schemas, depth + 1)];
  if (it.type === "object" || it.properties) {
    const required = new Set(it.required || []);
    const names = Object.keys(it.properties || {}).filter((name) => depth === 0 || required.has(name));
    return Object.fromEntries(names.map((name) => [name, example(it.properties[name], schemas, depth + 1)]));
  }
  return { string: "", integer: 0, number: 0, boolean: false }[it.type] ?? null;
}

async function send(event, path, method, form, shown) {
  event.preventDefault();
  const query = new URLSearchParams();
  let target = path;
  for (const input of form.querySelectorAll("input[data-in]")) {
    if (input.dataset.in === "path") target = target.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.append(input.name, input.value);
  }
  const org = document.getElementById("org").value;
  if (org && form.dataset.org) query.set("org", org);
  const headers = csrf ? { "X-CSRF-Token": csrf } : {};
  const body = form.querySelector("textarea");
  if (body) headers["Content-Type"] = "application/json";
  const url = target + (query.size ? `?${query}` : "");
  shown.textContent = `${method} ${url} …`;
  try {
    const answer = await fetch(url, { method, headers, body: body ? body.value : undefined });
    const type = answer.headers.get("Content-Type") || "";
    const text = type.includes("json") ? JSON.stringify(await answer.json(), null, 2) : `${type}, ${(await answer.blob()).size} bytes`;
    shown.className = answer.ok ? "" : "refused";
    shown.textContent = `${method} ${url}\n${answer.status} ${answer.statusText}\n\n${text}`;
  } catch (fault) {
    shown.className = "refused";
    shown.textContent = String(fault);
  }
}

function shownOperation(path, method, one, schemas) {
  const form = el("form");
  const shown = el("pre", { textContent: "" });
  for (const parameter of one.parameters || []) {
    if (parameter.name === "org") {
      form.dataset.org = "yes";
      continue;
    }
    const input = el("input", { name: parameter.name, required: parameter.required });
    input.dataset.in = parameter.in;
    form.append(el("div", { className: "field" }, el("label", {}, parameter.name), input,
      el("small", { textContent: resolved(parameter.schema, schemas).description || "" })));
  }
  const content = one.requestBody && one.requestBody.content["application/json"];
  if (content) form.append(el("textarea", { value: JSON.stringify(example(content.schema, schemas), null, 2), ariaLabel: "body" }));
  form.append(el("button", { textContent: "Send" }), shown);
  form.addEventListener("submit", (event) => send(event, path, method, form, shown));
  const head = el("summary", {}, el("span", { className: "method", textContent: method }), el("code", { textContent: path }),
    ` ${one.summary}`);
  return el("details", {}, head, el("p", { className: "about", textContent: one.description }), form);
}

function shownSession(session) {
  csrf = session ? session.csrf : null;
  document.getElementById("sign-in").hidden = Boolean(session);
  document.getElementById("sign-out").hidden = !session;
  document.getElementById("who").textContent = session ? `${session.name} (${session.scopes.join(", ")})` : "";
}

async function signIn(event) {
  event.preventDefault();
  const field = document.getElementById("token");
  const body = JSON.stringify({ token: field.value });
  const answer = await fetch("session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const said = await answer.json();
  shownSession(answer.ok ? said : null);
  if (!answer.ok) document.getElementById("who").textContent = said.detail;
  field.value = "";
}

async function signOut() {
  await fetch("session", { method: "DELETE", headers: { "X-CSRF-Token": csrf } });
  shownSession(null);
}

async function resume() {
  const answer = await fetch("session");
  if (answer.ok) shownSession(await answer.json());
}

async function list() {
  const found = await (await fetch("openapi.json")).json();
  const nouns = new Map(found.tags.map((tag) => [tag.name, el("section", {}, el("h2", { textContent: tag.name }))]));
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      nouns.get(one.tags[0]).append(shownOperation(path, method.toUpperCase(), one, found.components.schemas));
    }
  }
  document.getElementById("operations").replaceChildren(...nouns.values());
}

document.getElementById("sign-in").addEventListener("submit", signIn);
document.getElementById("sign-out").addEventListener("click", signOut);
resume();
list().catch((fault) => { document.getElementById("operations").textContent = String(fault); });
