// One check at a time: here, or as a job; cancelled, refused, or overtaken by the next.

import { Problem, check, get, remove, submit } from "./api.js";
import { byId } from "./dom.js";
import { complain } from "./editor.js";
import { refresh } from "./job-list.js";
import { keep, settle } from "./job-store.js";
import { address, fitsAsJob, follow, foresee, name, named } from "./jobs.js";
import { busy, say, tell, tellJob } from "./status.js";

/** Seconds that a check may still take before it goes on as a job. */
const LONG = 20;

const state = { running: null, job: null };

/** The job that is followed; null for none. */
export const followedJob = () => state.job;

/** Do one thing at a time, which can be cancelled; null where it was cancelled, refused or overtaken. */
export async function only(words, work) {
  state.running?.abort();
  const running = (state.running = new AbortController());
  busy(true, words);
  complain([]);
  byId("offer").hidden = true;
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

/** Cancel what runs, at the service too. */
export async function cancel() {
  if (state.job) {
    try {
      await remove(address(state.job));
    } catch (error) {
      say(`The job goes on: ${error.message}`);
      return;
    }
    name(null);
  }
  state.running?.abort();
}

/** Check a request here and now. One that proves to be long goes on as a job, whose request is kept by `kept`. */
export async function sent(body, kept, signal) {
  const [direct, isLong] = [new AbortController(), foresee(LONG)];
  let handed = null;
  const progress = (event) => {
    tell(event);
    if (handed || !isLong(event)) return;
    handed = submit(body, signal).then(({ job }) => {
      if (job) direct.abort();
      return job;
    }).catch(() => null);
  };
  try {
    const report = await check(body, progress, AbortSignal.any([signal, direct.signal]));
    handed?.then((job) => job && remove(address(job.id))).catch(() => {});
    return report;
  } catch (error) {
    const job = signal.aborted ? null : await handed;
    if (!job) throw error;
    return followed(job.id, signal, kept);
  }
}

/** Check a request as a job. */
export async function sentAsJob(body, kept, signal) {
  const { job, report } = await submit(body, signal);
  return report ?? followed(job.id, signal, kept);
}

/** The report of a job, when it ends. A new one's request and title are kept for later looks. */
export async function followed(id, signal, kept) {
  if (kept) await keep(id, kept.request, kept.title);
  const report = await ended(id, signal, () => get(`${address(id)}/result`, signal));
  await settle(id, report.outcome);
  // The list may have been shown between the end of the job and this.
  refresh();
  return report;
}

/** Follow a job, and read its result when it ends. */
export async function ended(id, signal, read) {
  state.job = id;
  name(id);
  // A job may take long: until its end, what is shown is of another request.
  stale(byId("verdict").childElementCount > 0);
  refresh();
  try {
    await follow(id, tellJob, signal);
    return await read();
  } finally {
    if (state.job === id) state.job = null;
    refresh();
  }
}

/** Whether what is shown is of another request than the one that is written. */
function stale(is) {
  byId("old").hidden = !is;
  for (const part of ["verdict", "graph", "gradients", "further"]) byId(part).classList.toggle("stale", is);
}

export function failed(error) {
  if (error.name === "AbortError" || error.document?.status === 410) return refused("Cancelled.", []);
  const document = error instanceof Problem ? error.document : { detail: error.message };
  if (document.status === 401) byId("key").hidden = false;
  const isOfJob = named(location.hash) !== null;
  const isOffered = fitsAsJob(document) && !isOfJob;
  byId("offer").hidden = !isOffered;
  if (isOfJob && document.status === 404) name(null);
  const words = isOfJob && document.status === 404 ? "There is no such job." : isOffered ? "Refused; it may run as a job." : "Refused.";
  refused(words, document.errors ?? [{ pointer: "", detail: document.detail }], document.total_errors);
}

export function refused(words, errors, total) {
  stale(byId("verdict").childElementCount > 0);
  say(words);
  complain(errors, total);
}
