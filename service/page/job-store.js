// The requests of jobs, in this browser: the service gives a job's report, and not its request.

const MOST = 30;

function opened() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("gradcheckd", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("jobs", { keyPath: "id" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

/** Do one thing with the store, and return its result; null where the browser keeps nothing, as in some private windows. */
async function used(mode, work) {
  try {
    const database = await opened();
    try {
      return await new Promise((resolve, reject) => {
        const asked = work(database.transaction("jobs", mode).objectStore("jobs"));
        asked.onsuccess = () => resolve(asked.result);
        asked.onerror = () => reject(asked.error);
      });
    } finally {
      database.close();
    }
  } catch {
    return null;
  }
}

/** Keep the request of a job and a name for it; the oldest of too many are dropped. */
export async function keep(id, request, title) {
  await used("readwrite", (store) => store.put({ id, request, title, at: Date.now() }));
  const others = (await used("readonly", (store) => store.getAll())) ?? [];
  others.sort((a, b) => b.at - a.at);
  for (const each of others.slice(MOST)) await drop(each.id);
}

/** What is kept of a job; undefined or null for nothing. */
export const recall = (id) => used("readonly", (store) => store.get(id));

/** Note the outcome of a job's report. */
export async function settle(id, outcome) {
  const kept = await recall(id);
  if (kept) await used("readwrite", (store) => store.put({ ...kept, outcome }));
}

export const drop = (id) => used("readwrite", (store) => store.delete(id));
