// A loss that only this program can evaluate, judged over HTTP: node examples/blackbox.mjs [address]
const address = process.argv[2] ?? "http://127.0.0.1:8000";

async function post(path, body) {
  const answer = await fetch(address + path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail);
  return document;
}

const loss = (w) => w.reduce((sum, each, i) => sum + Math.sin(each) * w[(i + w.length - 1) % w.length], 0);

const w = [0.5, -1.5, 2.0, 0.25];
const backward = w.map((each, i) => Math.cos(each) * w[(i + 3) % 4] + Math.sin(w[(i + 1) % 4]));

const { plan, points } = await post("/v1/plan", { point: { w }, seed: 1 });
const losses = points.map((point) => loss(point.w));
for (const sign of [1, -1]) {
  const candidate = { w: backward.map((each) => sign * each) };
  console.log((await post("/v1/judge", { plan, losses, candidate })).summary);
}
