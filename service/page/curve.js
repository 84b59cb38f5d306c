// The V-curve: the error of naive differences of one element against their step, on logarithmic axes, by uPlot.

import { byId, element, show } from "./dom.js";
import { numeric, place, told } from "./numbers.js";
import { table } from "./table.js";
import uPlot from "./vendor/uplot/uPlot.js";

const KINDS = {
  central: { label: "central", width: 2.5 },
  forward: { label: "forward", width: 2, dash: [8, 5] },
  complex_step: { label: "complex step", width: 2, dash: [2, 4] },
};
const COLOURS = { central: "--central", forward: "--forward", complex_step: "--complex" };
const HEIGHT = 320;
const NARROW = 640;

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
  const at = lowest(errors[kinds.indexOf("central")]);
  shown = { data: [curve.steps, ...errors], kinds, engine: curve.engine, best: curve.steps[at] };
  draw();
  const exact = (error) => (error === null ? "none" : error <= least ? "0" : told(error, 2));
  byId("curve-text").textContent = `${place(name, index)}: the central difference is best at step ${told(curve.steps[at], 2)}, off by ` +
    `${exact(errors[kinds.indexOf("central")][at])}; the engine says ${told(curve.engine.value, 10)} ± ${told(curve.engine.error_bound, 2)}, from step ${told(curve.engine.step, 2)} on.`;
  show("curve-table", table("Errors at every step", ["step h", ...kinds.map((kind) => KINDS[kind].label)],
    curve.steps.map((step, row) => [told(step, 3), ...errors.map((each) => exact(each[row]))])));
}

/** The place of the least; of an empty error there is none. */
function lowest(errors) {
  return errors.reduce((least, each, at) => (each !== null && (errors[least] === null || each < errors[least]) ? at : least), 0);
}

/** Draw what is shown again, as wide as there is room and in the colours that hold. */
export function draw() {
  if (!shown) return;
  const { data, kinds } = shown;
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
    hooks: { drawClear: [halved], draw: [marked] },
  };
  const holder = element("div", { role: "img", "aria-labelledby": "curve-text" });
  show("curve", holder);
  new uPlot(options, data, holder);
}

/** Tint the side on which rounding makes the error of the central difference. */
function halved(plot) {
  const { ctx: context, bbox: area } = plot;
  const x = plot.valToPos(shown.best, "x", true);
  context.save();
  context.fillStyle = css("--sheet");
  context.fillRect(area.left, area.top, Math.max(0, x - area.left), area.height);
  context.restore();
}

/** What the two sides are, and the engine's own step and bound, as lines with their names on them. */
function marked(plot) {
  const { ctx: context, bbox: area } = plot;
  const [step, bound] = [numeric(shown.engine.step), numeric(shown.engine.error_bound)];
  context.save();
  context.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`;
  const foot = area.top + area.height - 8 * devicePixelRatio;
  word(context, "← rounding", area.left + 4 * devicePixelRatio, foot, "left", css("--quiet"));
  word(context, "truncation →", area.left + area.width - 4 * devicePixelRatio, foot, "right", css("--quiet"));
  context.strokeStyle = css("--engine");
  context.lineWidth = 1.5 * devicePixelRatio;
  context.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  context.beginPath();
  const y = plot.valToPos(bound, "y", true);
  if (step > 0 && Number.isFinite(step)) {
    const x = plot.valToPos(step, "x", true);
    context.moveTo(x, area.top);
    context.lineTo(x, area.top + area.height);
    // Below the bound, where on this side there is no curve.
    const under = Math.min(area.top + area.height - 30 * devicePixelRatio, Math.max(area.top, y || 0) + 20 * devicePixelRatio);
    word(context, "engine's step", x - 6 * devicePixelRatio, under, "right", css("--engine"));
  }
  if (bound > 0 && y >= area.top && y <= area.top + area.height) {
    context.moveTo(area.left, y);
    context.lineTo(area.left + area.width, y);
    word(context, "engine's bound", area.left + 8 * devicePixelRatio, y - 6 * devicePixelRatio, "left", css("--engine"));
  }
  context.stroke();
  context.restore();
}

/** Text that stays readable over a line. */
function word(context, text, x, y, align, colour) {
  context.save();
  context.setLineDash([]);
  context.textAlign = align;
  context.lineJoin = "round";
  context.lineWidth = 5 * devicePixelRatio;
  context.strokeStyle = css("--paper");
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
  context.restore();
}
