// How far the check is, for the eye at each step and for a screen reader at each tenth.

import { byId } from "./dom.js";

const TITLE = document.title;
let heard = "";

/** Show words; a screen reader says them where the last ones that it said had another mark. */
export function say(words, mark = words) {
  byId("status").textContent = words;
  if (mark === heard) return;
  heard = mark;
  byId("announcement").textContent = words;
}

export function busy(is, words) {
  byId("cancel").disabled = !is;
  byId("progress").value = 0;
  byId("result").setAttribute("aria-busy", String(is));
  document.title = TITLE;
  if (words !== undefined) say(words);
}

/** Show the progress of the differences. */
export function tell({ done, total, tensor }) {
  byId("progress").max = Math.max(1, total);
  byId("progress").value = done;
  say(`${done} of ${total} evaluations, at ${tensor}`, `tenth ${Math.floor((10 * done) / Math.max(1, total))}`);
}

/** Show how far a job is, in the title of the window too: it may be behind others. */
export function tellJob(job) {
  if (job === null) return say("The service does not answer. This page asks it again.");
  const { status, progress } = job;
  if (status === "accepted") return say("The job waits for its turn.");
  if (!progress.total) return say("The job runs.");
  tell(progress);
  document.title = `${Math.floor((100 * progress.done) / progress.total)} % ${TITLE}`;
}
