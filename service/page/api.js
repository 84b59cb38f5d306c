// The public interface, and nothing else.

/** A problem document that was answered. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail);
    this.document = document;
  }
}

/** Whether requests bear a key. */
export const keyed = () => Boolean(sessionStorage.getItem("key"));

function headers(type, accept) {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": type, Accept: accept, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function answered(response) {
  if (response.ok) return response;
  const text = await response.text();
  try {
    throw new Problem(JSON.parse(text));
  } catch (error) {
    throw error instanceof Problem ? error : new Error(`The service answered ${response.status}.`);
  }
}

export async function get(path, signal) {
  return (await answered(await fetch(path, { headers: headers("application/json", "application/json"), signal }))).json();
}

/** The same in a form for reading. */
export async function getText(path, signal) {
  return (await answered(await fetch(path, { headers: headers("application/json", "text/plain"), signal }))).text();
}

export async function remove(path) {
  await answered(await fetch(path, { method: "DELETE", headers: headers("application/json", "application/json") }));
}

/** Send a check that goes on without this page: its job, or the report where the service has no jobs. */
export async function submit(body, signal) {
  const options = { method: "POST", headers: { ...headers("application/json", "application/json"), Prefer: "respond-async" }, body, signal };
  const response = await answered(await fetch("/v1/check", options));
  const answer = await response.json();
  return response.status === 202 ? { job: answer } : { report: answer };
}

export async function post(path, body, signal) {
  const options = { method: "POST", headers: headers("application/json", "application/json"), body, signal };
  return (await answered(await fetch(path, options))).json();
}

/** The request that the service makes of an ONNX file, as the bytes of a safetensors file. */
export async function importModel(bytes) {
  const options = { method: "POST", headers: headers("application/onnx", "application/vnd.safetensors"), body: bytes };
  return (await answered(await fetch("/v1/import", options))).arrayBuffer();
}

/** Check a request and tell of the progress: of JSON text, or of a safetensors file. */
export async function check(body, progress, signal) {
  const type = typeof body === "string" ? "application/json" : "application/vnd.safetensors";
  const options = { method: "POST", headers: headers(type, "application/x-ndjson"), body, signal };
  const response = await answered(await fetch("/v1/check", options));
  for await (const event of lines(response.body)) {
    if (event.event === "progress") progress(event);
    else if (event.event === "report") return event.report;
    else throw new Problem(event.problem);
  }
  throw new Error("The answer ended early.");
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}
