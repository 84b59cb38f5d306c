// The V-curve: the error of naive differences of one element against their step, on logarithmic axes, by uPlot.

import { byId, element, show } from "./dom.js";
import { numeric, place, told } from "./numbers.js";
import uPlot from "./vendor/uplot/uPlot.js";

const KINDS = {
  central: { label: "central", width: 2.5 },
  forward: { label: "forward", width: 2, dash: [8, 5] },
  complex_step: { label: "complex step", width: 2, dash: [2, 4] },
};
const COLOURS = { central: "--central", forward: "--forward", complex_step: "--complex" };
const HEIGHT = 320;
const NARROW = 560;

let shown = null;

/** A colour of the stylesheet, as the scheme that holds makes it. */
function css(name) {
  const probe = element("i", {});
  probe.style.color = `var(${name})`;
  byId("curve").append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

/** Powers of ten, as many steps apart as they find room. */
const powers = (apart) => (_, __, least, most) => {
  const found = [];
  for (let power = apart * Math.ceil(Math.log10(least) / apart - 1e-9); power <= Math.log10(most) + 1e-9; power += apart) found.push(10 ** power);
  return found;
};

/** Show the answer to a curve of an element. */
export function showCurve(name, index, curve) {
  const truth = numeric(curve.analytic);
  const least = Math.max(Math.abs(truth), 1e-290) * 1e-18;
  const kinds = Object.keys(KINDS).filter((kind) => curve[kind]);
  // An error of nothing has no logarithm: it stands at the lower edge.
  const errors = kinds.map((kind) => curve[kind].map((each) => {
    const error = Math.abs(numeric(each) - truth);
    return Number.isFinite(error) ? Math.max(error, least) : null;
  }));
  shown = { data: [curve.steps, ...errors], kinds, engine: curve.engine };
  draw();
  const best = kinds.includes("central") ? errors[kinds.indexOf("central")] : errors[0];
  const at = best.reduce((lowest, each, step) => (each !== null && (best[lowest] === null || each < best[lowest]) ? step : lowest), 0);
  byId("curve-text").textContent = `${place(name, index)}: the central difference is best at step ${told(curve.steps[at], 2)}, off by ` +
    `${told(best[at], 2)}; the engine says ${told(curve.engine.value, 10)} ± ${told(curve.engine.error_bound, 2)}, from step ${told(curve.engine.step, 2)} on.`;
}

/** Draw what is shown again, as wide as there is room and in the colours that hold. */
export function draw() {
  if (!shown) return;
  const { data, kinds, engine } = shown;
  const ink = css("--ink");
  const line = css("--line");
  const width = Math.max(280, byId("curve").clientWidth);
  const axis = (label, apart) => ({ label, stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line }, splits: powers(apart), filter: (_, splits) => splits,
    values: (_, splits) => splits.map((each) => `1e${Math.round(Math.log10(each))}`) });
  const options = {
    width, height: HEIGHT,
    scales: { x: { time: false, distr: 3, log: 10 }, y: { distr: 3, log: 10 } },
    axes: [axis("step h", width < NARROW ? 4 : 2), { ...axis("error", 2), size: 62 }],
    series: [{ label: "h", value: (_, each) => (each === null ? "—" : told(each, 3)) }, ...kinds.map((kind) => ({
      ...KINDS[kind], stroke: css(COLOURS[kind]), spanGaps: false, points: { show: false }, value: (_, each) => (each === null ? "—" : told(each, 3)),
    }))],
    hooks: { draw: [(plot) => marked(plot, numeric(engine.step), numeric(engine.error_bound))] },
  };
  const holder = element("div", { role: "img", "aria-labelledby": "curve-text" });
  show("curve", holder);
  new uPlot(options, data, holder);
}

/** The engine's own step and bound, as two lines with their names on them. */
function marked(plot, step, bound) {
  const { ctx: context, bbox: area } = plot;
  context.save();
  context.strokeStyle = context.fillStyle = css("--engine");
  context.lineWidth = 1.5 * devicePixelRatio;
  context.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  context.font = `${12 * devicePixelRatio}px system-ui`;
  context.beginPath();
  if (step > 0 && Number.isFinite(step)) {
    const x = plot.valToPos(step, "x", true);
    context.moveTo(x, area.top);
    context.lineTo(x, area.top + area.height);
    context.textAlign = "right";
    context.fillText("engine's step", x - 4, area.top + 14 * devicePixelRatio);
  }
  const y = plot.valToPos(bound, "y", true);
  if (bound > 0 && y >= area.top && y <= area.top + area.height) {
    context.moveTo(area.left, y);
    context.lineTo(area.left + area.width, y);
    context.textAlign = "left";
    context.fillText("engine's bound", area.left + 6, y - 5);
  }
  context.stroke();
  context.restore();
}
