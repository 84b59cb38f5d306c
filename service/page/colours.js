// Two scales that people with any colour vision can read, and that change in lightness evenly: vik of Crameri (2018),
// "Scientific colour maps" 8 (MIT), for signed numbers; viridis of Smith and van der Walt (2015, CC0) for sizes.

const SIGNED = [
  "#001261", "#022b71", "#034481", "#0c5e92", "#2f7ca6", "#609dbc", "#92bdd2", "#c5dbe5", "#ece5e1", "#e9cbb9",
  "#dcab8f", "#cf8e68", "#c37243", "#b3531f", "#932e06", "#741506", "#590008",
];
const SIZES = [
  "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
];
const NONE = { fill: "rgb(128 128 128)", ink: "#000" };

const channels = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

function at(stops, part) {
  const position = Math.min(1, Math.max(0, part)) * (stops.length - 1);
  const low = Math.min(Math.floor(position), stops.length - 2);
  const [from, to] = [channels(stops[low]), channels(stops[low + 1])];
  const mixed = from.map((each, channel) => Math.round(each + (to[channel] - each) * (position - low)));
  return { fill: `rgb(${mixed.join(" ")})`, ink: luminance(mixed) > 0.18 ? "#000" : "#fff" };
}

/** Relative luminance of WCAG 2; black and white contrast alike with 0.18. */
export function luminance(rgb) {
  const [red, green, blue] = rgb.map((each) => each / 255).map((each) =>
    each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Colours of numbers from -most to most, zero in the middle. */
export const signed = (most) => (value) =>
  Number.isFinite(value) ? at(SIGNED, 0.5 + (most > 0 ? value / most / 2 : 0)) : NONE;

/** Colours of sizes from 10^low to 10^high; zero is as the least. */
export const sizes = (low, high) => (value) =>
  Number.isFinite(value) ? at(SIZES, value > 0 ? (Math.log10(value) - low) / Math.max(1e-9, high - low) : 0) : NONE;
