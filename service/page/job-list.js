// The latest jobs of the caller, each with what can be done with it.

import { get, keyed, remove } from "./api.js";
import { byId, element, show } from "./dom.js";
import { drop, recall } from "./job-store.js";
import { address } from "./jobs.js";
import { told } from "./numbers.js";
import { badge } from "./verdict.js";

const MOST = 20;
const REFRESH = 2000;
const WORDS = { accepted: "waiting", running: "running", successful: "done", failed: "failed", dismissed: "cancelled" };

let timer = 0;
let asked = 0;
let opens = () => {};
let ends = () => {};

/** Show the list while it is open; `open(id)` opens a job, and `removed(id)` is told of one that was cancelled or forgotten. */
export function listenToJobs(open, removed) {
  [opens, ends] = [open, removed];
  byId("jobs").addEventListener("toggle", refresh);
  document.addEventListener("visibilitychange", refresh);
}

/** Ask for the jobs anew, where somebody looks at them. */
export async function refresh() {
  clearTimeout(timer);
  if (!byId("jobs").open || document.hidden) return;
  const own = ++asked;
  try {
    const { jobs } = await get(`/v1/jobs?limit=${MOST}`);
    const kept = await Promise.all(jobs.map(({ id }) => recall(id)));
    // An answer that was overtaken by a later one is older.
    if (own !== asked) return;
    present(jobs, kept);
    clearTimeout(timer);
    if (jobs.some(({ finished }) => finished === null)) timer = setTimeout(refresh, REFRESH);
  } catch (error) {
    byId("jobs-note").textContent = error.message;
  }
}

function present(jobs, kept) {
  const whose = keyed() ? "They belong to your key." : "They belong to everyone here: the service knows no keys, or this page has none.";
  byId("jobs-note").textContent = jobs.length ? `The latest jobs, the last one first. ${whose}`
    : "There is no job. “Run as a job” makes one, which goes on when this page is closed.";
  const focused = document.activeElement?.closest?.("#job-list [data-does]");
  const [holder, does] = [focused?.closest("li").dataset.job, focused?.dataset.does];
  show("job-list", ...jobs.map((job, number) => item(job, kept[number])));
  if (!focused) return;
  const again = [...byId("job-list").children].find((each) => each.dataset.job === holder);
  (again?.querySelector(`[data-does="${does}"]`) ?? again?.querySelector("button") ?? byId("jobs").querySelector("summary")).focus();
}

function item(job, kept) {
  const title = kept?.title ?? `job ${job.id.slice(0, 8)}`;
  const [open, isOver] = [() => opens(job.id), job.finished !== null];
  const { done, total } = job.progress;
  const made = element("li", { className: "job" },
    element("b", {}, title), " ", kept?.outcome ? badge(kept.outcome) : element("span", { className: `state ${job.status}` }, WORDS[job.status]),
    element("span", { className: "quiet when" }, `${at(job.created)}${isOver && job.started ? `, ${told((Date.parse(job.finished) - Date.parse(job.started)) / 1000, 2)} s` : ""}`),
    isOver ? null : element("progress", { value: done, max: Math.max(1, total), "aria-label": `Evaluations of ${title}` }),
    element("span", { className: "row" },
      job.status === "dismissed" ? null : action("open", isOver ? "Open" : "Follow", title, job, open),
      isOver ? action("remove", "Forget", title, job, () => removed(job.id)) : action("remove", "Cancel", title, job, () => removed(job.id))));
  made.dataset.job = job.id;
  return made;
}

function action(does, words, title, job, onclick) {
  const button = element("button", { type: "button", onclick, "aria-label": `${words} ${title} of ${at(job.created)}` }, words);
  button.dataset.does = does;
  return button;
}

const at = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

async function removed(id) {
  try {
    await remove(address(id));
    await drop(id);
    ends(id);
    await refresh();
  } catch (error) {
    byId("jobs-note").textContent = error.message;
  }
}
