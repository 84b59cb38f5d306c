// Jobs: checks that go on at the service without this page.

import { Problem, get } from "./api.js";

const POLL = 1000;
const FIRST_POLL = 250;
const LONGEST_PAUSE = 10_000;
/** Milliseconds of progress before its pace is believed. */
const TRIAL = 2000;

export const address = (id) => `/v1/jobs/${id}`;

/** The job that the address of the page names; null for none. */
export const named = (fragment) => /^#job=([0-9a-f]{32})$/.exec(fragment)?.[1] ?? null;

/** Have the address of the page name a job, or none. */
export function name(id) {
  history.replaceState(null, "", id === null ? location.pathname + location.search : `#job=${id}`);
}

/** Follow a job to its end, and return it; `tell(job)` is called at each look, with null while the service does not answer. */
export async function follow(id, tell, signal) {
  let pause = FIRST_POLL;
  for (let failures = 0; ; ) {
    try {
      const job = await get(address(id), signal);
      if (job.finished !== null) return job;
      tell(job);
      failures = 0;
      pause = Math.min(2 * pause, POLL);
    } catch (error) {
      if (signal.aborted || isFinal(error)) throw error;
      tell(null);
      failures += 1;
      pause = Math.min(POLL * 2 ** failures, LONGEST_PAUSE);
    }
    await elapsed(pause, signal);
  }
}

/** Whether asking again is of no use: the service refused, and did not just fail to answer. */
const isFinal = (error) => error instanceof Problem && error.document.status < 500;

function elapsed(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/** Whether a request that was refused would fit as a job, which may take more operations and time, but not more memory. */
export function fitsAsJob({ status, errors = [] }) {
  return status === 422 && errors.some(({ detail }) => /^out of time|take about \S+ operations\b/.test(detail));
}

/** Foresees from its progress that a check takes longer than some seconds more. */
export function foresee(seconds, now = () => performance.now()) {
  let first = null;
  return ({ done, total }) => {
    first ??= { done, at: now() };
    const [spent, made] = [now() - first.at, done - first.done];
    return spent > TRIAL && made > 0 && ((total - done) * spent) / made > 1000 * seconds;
  };
}
