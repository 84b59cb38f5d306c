// What happens when: choosing, editing, checking, planting, dropping.

import { Problem, check, get, post } from "./api.js";
import { COPIES } from "./copies.js";
import { draw, showCurve } from "./curve.js";
import { byId, element, show } from "./dom.js";
import { showGradients } from "./gradients.js";
import { showGraph } from "./graph.js";
import { showGrids } from "./grids.js";
import { shapeOf } from "./numbers.js";
import { lineOf, located } from "./pointer.js";
import { showVerdict } from "./verdict.js";

const state = { models: [], request: null, planted: [], running: null, explanations: new Map() };

async function start() {
  state.models = (await get("/v1/models")).models;
  for (const { name, explanation } of (await get("/v1/bugs")).bugs) state.explanations.set(name, explanation);
  byId("preset").replaceChildren(...state.models.map((each) => element("option", { value: each.name }, each.name)));
  await choose(state.models[0].name);
}

/** Take up a preset. */
async function choose(name) {
  const model = state.models.find((each) => each.name === name);
  byId("description").textContent = model.description;
  await take(structuredClone(model.request));
}

/** Take up a request: show it, check it, and see which bugs its model can have. */
async function take(request) {
  state.request = request;
  byId("text").value = written(request);
  showGrids(request, changed);
  byId("bug").value = "";
  if (await run()) await list();
}

/** JSON with each innermost list on one line. */
export function written(request) {
  const lists = [];
  const text = JSON.stringify(request, (_, value) => {
    if (!Array.isArray(value) || value.some((each) => typeof each === "object" && each !== null)) return value;
    return `\u0000${lists.push(JSON.stringify(value)) - 1}\u0000`;
  }, 2);
  return text.replace(/"\\u0000(\d+)\\u0000"/g, (_, number) => lists[number].replaceAll(",", ", "));
}

function changed(section, name, index, number) {
  if (index.length === 0) state.request[section][name] = number;
  else index.slice(0, -1).reduce((list, each) => list[each], state.request[section][name])[index.at(-1)] = number;
  delete state.request.candidate;
  byId("bug").value = "";
  byId("text").value = written(state.request);
  run();
}

/** Check the request as it stands in the editor; true if there is a report. */
async function run() {
  let request;
  try {
    request = JSON.parse(byId("text").value);
  } catch (error) {
    stale(true);
    complain([{ pointer: "", detail: `The text is not JSON: ${error.message}` }]);
    return false;
  }
  state.request = request;
  const report = await checked(JSON.stringify({ ...request, include: ["gradients", "allowances", "intermediates"], encoding: "nested" }));
  if (report) present(report, request);
  return Boolean(report);
}

/** Check a body and tell of its progress; null where it was refused or cancelled. */
async function checked(body) {
  state.running?.abort();
  const running = (state.running = new AbortController());
  busy(true);
  complain([]);
  try {
    const report = await check(body, tell, running.signal);
    stale(false);
    byId("status").textContent = `Checked: ${report.outcome}.`;
    return report;
  } catch (error) {
    if (state.running === running) stale(true);
    if (error.name === "AbortError") byId("status").textContent = "Cancelled.";
    else failed(error);
    return null;
  } finally {
    if (state.running === running) busy(false);
  }
}

/** Whether what is shown is of another request than the one that is written. */
function stale(is) {
  byId("old").hidden = !is;
  byId("result").classList.toggle("stale", is);
}

function busy(is) {
  byId("cancel").disabled = !is;
  byId("progress").value = 0;
  byId("result").setAttribute("aria-busy", String(is));
  if (is) byId("status").textContent = "Checking …";
}

function tell(event) {
  byId("progress").max = Math.max(1, event.total);
  byId("progress").value = event.done;
  byId("status").textContent = `${event.done} of ${event.total} evaluations, at ${event.tensor}`;
}

function failed(error) {
  byId("status").textContent = "Refused.";
  const document = error instanceof Problem ? error.document : { detail: error.message };
  if (document.status === 401) byId("key").hidden = false;
  complain(document.errors ?? [{ pointer: "", detail: document.detail }], document.total_errors);
}

/** List errors, and mark the lines of the editor that they are about. */
function complain(errors, total = errors.length) {
  const text = byId("text").value;
  const lines = new Set();
  const items = errors.map(({ pointer, detail }) => {
    const [from, to] = located(text, pointer);
    if (pointer) lines.add(lineOf(text, from));
    const where = element("button", { type: "button", className: "link", onclick: () => select(from, to) }, pointer || "the request");
    return element("li", {}, where, ` ${detail}`);
  });
  if (total > errors.length) items.push(element("li", {}, `and ${total - errors.length} more`));
  show("errors", ...(items.length ? [element("ul", {}, ...items)] : []));
  const count = Math.max(1, text.split("\n").length);
  byId("marks").replaceChildren(...Array.from({ length: count }, (_, line) =>
    element("div", { className: lines.has(line + 1) ? "wrong" : "" }, String(line + 1))));
  for (const field of document.querySelectorAll("#grids input")) {
    field.setAttribute("aria-invalid", String(errors.some(({ pointer }) => pointer === field.dataset.pointer)));
  }
  if (lines.size) byId("json").open = true;
}

function select(from, to) {
  byId("json").open = true;
  byId("text").focus();
  byId("text").setSelectionRange(from, to);
  const line = lineOf(byId("text").value, from);
  byId("text").scrollTop = byId("marks").scrollTop = (line - 4) * parseFloat(getComputedStyle(byId("text")).lineHeight);
}

function present(report, request) {
  showVerdict(report);
  showGraph(report, request);
  showGradients(report, (name, index) => curve(name, index));
  const [name] = Object.keys(report.gradients);
  const worst = report.verdicts[name]?.worst[0]?.index;
  curve(name, worst ?? shapeOf(report.gradients[name].analytic).map(() => 0));
}

async function curve(name, index) {
  const { candidate, include, ...request } = state.request;
  try {
    showCurve(name, index, await post("/v1/curve", JSON.stringify({ ...request, element: { name, index } })));
  } catch (error) {
    byId("curve-text").textContent = error.message;
  }
}

/** Offer the bugs that the model can have. */
async function list() {
  const { candidate, ...request } = state.request;
  const names = await post("/v1/bugs", JSON.stringify(request)).then(({ bugs }) => [...new Set(bugs.map((each) => each.name))], () => []);
  byId("bug").replaceChildren(element("option", { value: "" }, "none"),
    ...names.map((each) => element("option", { value: each, title: state.explanations.get(each) ?? "" }, each.replaceAll("_", " "))));
}

async function plant(bug) {
  const { candidate, ...request } = state.request;
  if (bug) {
    try {
      const [planted] = (await post("/v1/bugs", JSON.stringify({ ...request, bug, encoding: "nested" }))).bugs;
      request.candidate = planted.candidate;
    } catch (error) {
      failed(error);
      return;
    }
  }
  byId("text").value = written(request);
  await run();
}

async function open(file) {
  if (file.name.endsWith(".safetensors")) {
    const report = await checked(await file.arrayBuffer());
    if (report) {
      showVerdict(report);
      showGradients(report, () => {});
      show("graph", element("p", { className: "quiet" }, `The model of ${file.name}: ${report.model.nodes.map((node) => node.name).join(", ")}`));
    }
    return;
  }
  byId("text").value = await file.text();
  byId("json").open = true;
  await edited();
}

async function edited() {
  if (await run()) {
    showGrids(state.request, changed);
    await list();
  }
}

async function copy(kind) {
  const text = COPIES[kind](kind === "json" ? byId("text").value : JSON.stringify(state.request), location.origin);
  await navigator.clipboard.writeText(text);
  byId("status").textContent = `Copied as ${kind}.`;
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").textContent = dark ? "Light" : "Dark";
  draw();
}

function listen() {
  byId("preset").addEventListener("change", (event) => choose(event.target.value));
  byId("bug").addEventListener("change", (event) => plant(event.target.value));
  byId("run").addEventListener("click", edited);
  byId("cancel").addEventListener("click", () => state.running?.abort());
  byId("text").addEventListener("change", edited);
  byId("text").addEventListener("scroll", () => (byId("marks").scrollTop = byId("text").scrollTop));
  byId("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
  byId("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy));
  byId("key").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", byId("bearer").value);
    byId("key").hidden = true;
    start().catch(failed);
  });
  addEventListener("resize", draw);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => (byId("drop").hidden = event.relatedTarget !== null));
  addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").hidden = true;
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}

theme(matchMedia("(prefers-color-scheme: dark)").matches);
listen();
start().catch(failed);
