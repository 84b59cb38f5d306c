// What happens when: choosing, editing, checking, planting, dropping.

import { Problem, check, get, importModel, keyed, post } from "./api.js";
import { COPIES } from "./copies.js";
import { draw, showCurve } from "./curve.js";
import { byId, element } from "./dom.js";
import { complain, text, write } from "./editor.js";
import { markChosen, showGradients } from "./gradients.js";
import { showGraph } from "./graph.js";
import { showGrids } from "./grids.js";
import { shapeOf } from "./numbers.js";
import { requestOf } from "./safetensors.js";
import { follow } from "./theme.js";
import { showVerdict } from "./verdict.js";
import { showWorst } from "./worst.js";

const INCLUDED = { include: ["gradients", "allowances", "intermediates"], encoding: "nested" };

const state = { models: [], request: null, running: null, curve: 0, explanations: new Map() };

async function start() {
  const [{ models }, { bugs }] = await Promise.all([get("/v1/models"), get("/v1/bugs")]);
  state.models = models;
  state.explanations = new Map(bugs.map(({ name, explanation }) => [name, explanation]));
  byId("preset").replaceChildren(...state.models.map((each) => element("option", { value: each.name }, each.name)),
    element("option", { value: "", disabled: true }, "your own model"));
  await choose(state.models[0].name);
}

/** Take up a preset. */
async function choose(name) {
  await take(structuredClone(state.models.find((each) => each.name === name).request));
}

/** Take up a request: write it, check it, and see which bugs its model can have. */
async function take(request) {
  write(request);
  state.request = request;
  shown();
  if (await run()) await list();
}

/** Show the fields of the request that holds, and what its model is. */
function shown() {
  const { model } = state.request;
  const preset = state.models.find((each) => each.name === (model ?? state.models[0].name));
  byId("preset").value = preset?.name ?? "";
  byId("description").textContent = preset?.description ?? "The model of the request below.";
  byId("bug").value = "";
  showGrids(state.request, changed);
}

/** A number of a grid is another. */
function changed(section, name, index, number) {
  const tensor = state.request[section][name];
  const holder = tensor.data === undefined ? [state.request[section], name] : [tensor, "data"];
  if (index.length === 0) holder[0][holder[1]] = number;
  else index.slice(0, -1).reduce((list, each) => list[each], holder[0][holder[1]])[index.at(-1)] = number;
  delete state.request.candidate;
  byId("bug").value = "";
  write(state.request);
  run();
}

/** Check the request as it stands in the editor; true if there is a report. */
async function run() {
  let request;
  try {
    request = JSON.parse(text());
  } catch (error) {
    refused("Not JSON.", [{ pointer: "", detail: `The text is not JSON: ${error.message}` }]);
    return false;
  }
  const isObject = typeof request === "object" && request !== null && !Array.isArray(request);
  const body = isObject ? JSON.stringify({ ...request, ...INCLUDED }) : text();
  const report = await only("Checking …", (signal) => check(body, tell, signal));
  if (!report) return false;
  state.request = request;
  byId("status").textContent = `Checked: ${report.outcome}.`;
  present(report);
  return true;
}

/** Do one thing at a time, which can be cancelled; null where it was cancelled, refused or overtaken. */
async function only(words, work) {
  state.running?.abort();
  const running = (state.running = new AbortController());
  busy(true, words);
  complain([]);
  try {
    const result = await work(running.signal);
    if (state.running !== running) return null;
    stale(false);
    return result;
  } catch (error) {
    if (state.running === running) failed(error);
    return null;
  } finally {
    if (state.running === running) busy(false);
  }
}

/** Whether what is shown is of another request than the one that is written. */
function stale(is) {
  byId("old").hidden = !is;
  for (const part of ["verdict", "graph", "gradients", "further"]) byId(part).classList.toggle("stale", is);
}

function busy(is, words = byId("status").textContent) {
  byId("cancel").disabled = !is;
  byId("progress").value = 0;
  byId("result").setAttribute("aria-busy", String(is));
  byId("status").textContent = words;
}

function tell(event) {
  byId("progress").max = Math.max(1, event.total);
  byId("progress").value = event.done;
  byId("status").textContent = `${event.done} of ${event.total} evaluations, at ${event.tensor}`;
}

function failed(error) {
  if (error.name === "AbortError") {
    refused("Cancelled.", []);
    return;
  }
  const document = error instanceof Problem ? error.document : { detail: error.message };
  if (document.status === 401) byId("key").hidden = false;
  refused("Refused.", document.errors ?? [{ pointer: "", detail: document.detail }], document.total_errors);
}

function refused(words, errors, total) {
  stale(byId("verdict").childElementCount > 0);
  byId("status").textContent = words;
  complain(errors, total);
}

function present(report) {
  showVerdict(report);
  showGraph(report, state.request);
  byId("model-text").value = isText(state.request.model) ? state.request.model : report.model_text;
  showGradients(report, curve);
  showWorst(report);
  byId("page").classList.add("shown");
  const names = [...Object.keys(report.gradients), ...report.model.nodes.slice(0, -1).map((each) => each.name)];
  byId("element-name").replaceChildren(...[...new Set(names)].map((each) => element("option", { value: each }, each)));
  const [name] = Object.keys(report.gradients);
  const worst = report.verdicts[name]?.worst[0]?.index;
  curve(name, worst ?? shapeOf(report.gradients[name].analytic).map(() => 0));
}

/** Show the curve of an element, unless another is asked for meanwhile. */
async function curve(name, index) {
  const { candidate, include, ...request } = state.request;
  const asked = (state.curve += 1);
  markChosen(name, index);
  byId("element-name").value = name;
  byId("element-index").value = index.join(", ");
  try {
    const found = await post("/v1/curve", JSON.stringify({ ...request, element: { name, index } }));
    if (asked === state.curve) showCurve(name, index, found);
  } catch (error) {
    if (asked === state.curve) byId("curve-text").textContent = error.message;
  }
}

/** Offer the bugs that the model can have. */
async function list() {
  const { candidate, ...request } = state.request;
  const asked = state.request;
  const { bugs } = await post("/v1/bugs", JSON.stringify(request)).catch(() => ({ bugs: [] }));
  if (asked !== state.request) return;
  const names = [...new Set(bugs.map((each) => each.name))];
  byId("bug").replaceChildren(element("option", { value: "" }, "none"),
    ...names.map((each) => element("option", { value: each, title: state.explanations.get(each) ?? "" }, each.replaceAll("_", " "))));
}

/** Make the gradients wrong in the way that was chosen, and check them. */
async function plant(bug) {
  const { candidate, ...request } = state.request;
  if (bug) {
    const body = JSON.stringify({ ...request, bug, encoding: "nested" });
    const answer = await only("Planting …", (signal) => post("/v1/bugs", body, signal));
    if (!answer) return;
    request.candidate = answer.bugs[0]?.candidate;
  }
  write(request);
  await run();
}

/** Take up the request that the service makes of an ONNX file. */
async function imported(bytes) {
  try {
    await take(requestOf(await importModel(bytes)));
  } catch (error) {
    if (error instanceof Problem) refused("Refused.", error.document.errors ?? [], error.document.total_errors);
    else throw error;
  }
}

/** Take up a file; one that is not what its name says goes to the service as it is, which says what is wrong. */
async function open(file) {
  if (file.name.endsWith(".onnx")) return imported(await file.arrayBuffer());
  if (!file.name.endsWith(".safetensors")) {
    byId("text").value = await file.text();
    byId("json").open = true;
    await edited();
    return;
  }
  const bytes = await file.arrayBuffer();
  try {
    await take(requestOf(bytes));
  } catch {
    await only("Checking …", (signal) => check(bytes, tell, signal));
  }
}

/** Whether a model is a text, not a preset's name or a list. */
const isText = (model) => typeof model === "string" && model.includes("=");

/** The text of the model is another. */
async function modelEdited() {
  const { candidate, ...request } = state.request;
  write({ ...request, model: byId("model-text").value });
  await edited();
}

/** The text of the request is another. */
async function edited() {
  if (!(await run())) return;
  shown();
  await list();
}

async function copy(kind) {
  const written = COPIES[kind](kind === "json" ? text() : JSON.stringify(state.request), location.origin, keyed());
  try {
    await navigator.clipboard.writeText(written);
    byId("status").textContent = `Copied as ${kind}.`;
  } catch {
    // A browser lets a page write there only over HTTPS or from the machine itself.
    byId("copy").hidden = false;
    byId("copied").value = written;
    byId("copied").select();
    byId("status").textContent = "The browser does not allow the page to copy. Copy the text from the field.";
  }
}

function listen() {
  byId("preset").addEventListener("change", (event) => choose(event.target.value));
  byId("bug").addEventListener("change", (event) => plant(event.target.value));
  byId("run").addEventListener("click", edited);
  byId("cancel").addEventListener("click", () => state.running?.abort());
  byId("text").addEventListener("change", edited);
  byId("model-text").addEventListener("change", modelEdited);
  byId("text").addEventListener("scroll", () => (byId("marks").scrollTop = byId("text").scrollTop));
  byId("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy));
  byId("key").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", byId("bearer").value);
    byId("key").hidden = true;
    start().catch(failed);
  });
  byId("element").addEventListener("submit", (event) => {
    event.preventDefault();
    curve(byId("element-name").value, (byId("element-index").value.match(/-?\d+/g) ?? []).map(Number));
  });
  addEventListener("resize", draw);
  listenToDrops();
}

function listenToDrops() {
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

follow(draw);
listen();
start().catch(failed);
