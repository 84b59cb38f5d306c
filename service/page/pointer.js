// Where in a JSON text the value is that a JSON Pointer (RFC 6901) names.

/** Offsets [start, end] of the value, or of the deepest value on the way to it that there is. */
export function located(text, pointer) {
  const path = pointer.split("/").slice(1).map((each) => each.replaceAll("~1", "/").replaceAll("~0", "~"));
  const scan = { text, at: 0 };
  let [start, end] = [0, text.length];
  try {
    for (const key of path) {
      const found = child(scan, key);
      if (!found) break;
      [start, end] = found;
      scan.at = start;
    }
  } catch {
    // Not JSON: as far as it went.
  }
  return [start, end];
}

export const lineOf = (text, offset) => text.slice(0, offset).split("\n").length;

function child(scan, key) {
  blank(scan);
  const opening = scan.text[scan.at];
  if (opening !== "{" && opening !== "[") return null;
  scan.at += 1;
  for (let number = 0; ; number += 1) {
    blank(scan);
    if (scan.text[scan.at] === "]" || scan.text[scan.at] === "}") return null;
    let name = String(number);
    if (opening === "{") {
      const from = scan.at;
      skip(scan);
      name = JSON.parse(scan.text.slice(from, scan.at));
      blank(scan);
      scan.at += 1;
    }
    blank(scan);
    const start = scan.at;
    skip(scan);
    if (name === key) return [start, scan.at];
    blank(scan);
    if (scan.text[scan.at] !== ",") return null;
    scan.at += 1;
  }
}

function blank(scan) {
  while (/\s/.test(scan.text[scan.at] ?? "")) scan.at += 1;
}

/** Go past one value, without recursion: it may be deep. */
function skip(scan) {
  let depth = 0;
  do {
    const character = scan.text[scan.at];
    if (character === undefined) throw new SyntaxError("the end");
    if (character === '"') string(scan);
    else {
      if (character === "{" || character === "[") depth += 1;
      if (character === "}" || character === "]") depth -= 1;
      scan.at += 1;
    }
    if (depth === 0 && !/["{[]/.test(character)) {
      while (scan.at < scan.text.length && !/[,\]}\s:"]/.test(scan.text[scan.at]) && !/[}\]]/.test(character)) scan.at += 1;
    }
  } while (depth > 0);
}

function string(scan) {
  scan.at += 1;
  while (scan.text[scan.at] !== '"') {
    if (scan.text[scan.at] === undefined) throw new SyntaxError("the end");
    scan.at += scan.text[scan.at] === "\\" ? 2 : 1;
  }
  scan.at += 1;
}
