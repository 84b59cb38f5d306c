// What happens when: choosing, editing, checking, planting, dropping.

import { Problem, check, get, getText, importModel, keyed, post } from "./api.js";
import { COPIES } from "./copies.js";
import { draw, showCurve } from "./curve.js";
import { byId, element } from "./dom.js";
import { text, write } from "./editor.js";
import { markChosen, showGradients } from "./gradients.js";
import { showGraph } from "./graph.js";
import { showGrids } from "./grids.js";
import { listenToJobs } from "./job-list.js";
import { recall } from "./job-store.js";
import { address, name as nameJob, named as namedJob } from "./jobs.js";
import { shapeOf } from "./numbers.js";
import { cancel, ended, failed, followed, followedJob, only, refused, sent, sentAsJob } from "./running.js";
import { requestOf } from "./safetensors.js";
import { say, tell } from "./status.js";
import { follow } from "./theme.js";
import { showText, showVerdict } from "./verdict.js";
import { showWorst } from "./worst.js";

const INCLUDED = { include: ["gradients", "allowances", "intermediates"], encoding: "nested" };

const state = { models: [], request: null, curve: 0, explanations: new Map() };

async function start() {
  const [{ models }, { bugs }] = await Promise.all([get("/v1/models"), get("/v1/bugs")]);
  state.models = models;
  state.explanations = new Map(bugs.map(({ name, explanation }) => [name, explanation]));
  byId("preset").replaceChildren(...state.models.map((each) => element("option", { value: each.name }, each.name)),
    element("option", { value: "", disabled: true }, "your own model"));
  const job = namedJob(location.hash);
  if (job === null) await choose(state.models[0].name);
  else await openJob(job);
}

/** Take up a preset. */
async function choose(name) {
  await take(structuredClone(state.models.find((each) => each.name === name).request));
}

/** Take up a request: write it, check it, and see which bugs its model can have. */
async function take(request) {
  put(request);
  if (await run()) await list();
}

/** Write a request, and show what it is of. */
function put(request) {
  write(request);
  state.request = request;
  shown();
}

/** The preset that a request is of, if it is of one. */
const presetOf = (request) => state.models.find((each) => each.name === (request?.model ?? state.models[0].name));

/** Show the fields of the request that holds, and what its model is. */
function shown() {
  const preset = presetOf(state.request);
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

/** Check the request as it stands in the editor, by a way to send it; true if there is a report. */
async function run(send = sent) {
  let request;
  try {
    request = JSON.parse(text());
  } catch (error) {
    refused("Not JSON.", [{ pointer: "", detail: `The text is not JSON: ${error.message}` }]);
    return false;
  }
  const isObject = typeof request === "object" && request !== null && !Array.isArray(request);
  const body = isObject ? JSON.stringify({ ...request, ...INCLUDED }) : text();
  nameJob(null);
  if (isObject && send === sentAsJob) {
    state.request = request;
    shown();
  }
  const report = await only("Checking …", (signal) => send(body, { request, title: presetOf(request)?.name ?? "your own model" }, signal));
  if (!report) return false;
  state.request = request;
  say(`Checked: ${report.outcome}.`);
  present(report);
  return true;
}

/** Open a job: with its request if this browser has it, and else as a text. */
async function openJob(id) {
  const kept = await recall(id);
  if (!kept) return openForeignJob(id);
  put(kept.request);
  const report = await only("Looking for the job …", (signal) => followed(id, signal));
  if (!report) return;
  say(`The job ended: ${report.outcome}.`);
  present(report);
  await list();
}

async function openForeignJob(id) {
  if (!state.request) put(structuredClone(state.models[0].request));
  const words = await only("Looking for the job …", (signal) => ended(id, signal, () => getText(`${address(id)}/result`, signal)));
  if (words === null) return;
  say("The job ended.");
  showText("This browser does not have the request of this job. The report as a text:", words);
  byId("parts").hidden = byId("further").hidden = true;
}

function present(report) {
  byId("parts").hidden = byId("further").hidden = false;
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

/** The text of the request is another, or is to be sent by another way. */
async function edited(send = sent) {
  if (!(await run(send))) return;
  shown();
  await list();
}

async function copy(kind) {
  const written = COPIES[kind](kind === "json" ? text() : JSON.stringify(state.request), location.origin, keyed());
  try {
    await navigator.clipboard.writeText(written);
    say(`Copied as ${kind}.`);
  } catch {
    // A browser lets a page write there only over HTTPS or from the machine itself.
    byId("copy").hidden = false;
    byId("copied").value = written;
    byId("copied").select();
    say("The browser does not allow the page to copy. Copy the text from the field.");
  }
}

function listen() {
  byId("preset").addEventListener("change", (event) => choose(event.target.value));
  byId("bug").addEventListener("change", (event) => plant(event.target.value));
  byId("run").addEventListener("click", () => edited());
  for (const id of ["run-as-job", "take-offer"]) byId(id).addEventListener("click", () => edited(sentAsJob));
  byId("cancel").addEventListener("click", cancel);
  byId("text").addEventListener("change", () => edited());
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
  addEventListener("hashchange", () => {
    const job = namedJob(location.hash);
    if (job !== null && job !== followedJob()) openJob(job);
  });
  listenToJobs(openJob, (id) => {
    if (namedJob(location.hash) === id) nameJob(null);
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    // Its fragment would take the place of a job's.
    event.preventDefault();
    byId("result").focus();
  });
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
