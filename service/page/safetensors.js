// A request in the safetensors format, as the same request in JSON.

const DATATYPES = { F64: "FP64", F32: "FP32", F16: "FP16", BF16: "BF16", I64: "INT64", I32: "INT32", BOOL: "BOOL" };
const READERS = {
  F64: (bytes) => [...new Float64Array(bytes)].map(spelled),
  F32: (bytes) => [...new Float32Array(bytes)].map(spelled),
  I32: (bytes) => [...new Int32Array(bytes)],
  BOOL: (bytes) => [...new Uint8Array(bytes)].map(Boolean),
};
const MOST_WRITTEN = 1024;
const PIECE = 0x8000;

/** The request that a file holds; throws where it is not in that format. */
export function requestOf(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: { request = "{}" } = {}, ...tensors } = header;
  const found = { tensors: {}, weights: {}, ...JSON.parse(request) };
  for (const [path, { dtype, shape, data_offsets: [from, to] }] of Object.entries(tensors)) {
    const [section, name] = [path.slice(0, path.indexOf("/")), path.slice(path.indexOf("/") + 1)];
    found[section] = { ...found[section], [name]: tensor(dtype, shape, buffer.slice(8 + length + from, 8 + length + to)) };
  }
  return found;
}

/** Small tensors as numbers that can be read and edited, all others as their bytes. */
function tensor(dtype, shape, bytes) {
  const datatype = DATATYPES[dtype] ?? dtype;
  const count = shape.reduce((product, each) => product * each, 1);
  if (!(dtype in READERS) || count > MOST_WRITTEN || count === 0) return { datatype, shape, b64: base64(new Uint8Array(bytes)) };
  const data = nested(READERS[dtype](bytes), shape);
  return dtype === "F64" ? data : { datatype, shape, data };
}

const spelled = (number) => (Number.isFinite(number) ? number : String(number));

function nested(numbers, shape) {
  if (shape.length === 0) return numbers[0];
  const step = numbers.length / shape[0];
  return Array.from({ length: shape[0] }, (_, row) => nested(numbers.slice(row * step, (row + 1) * step), shape.slice(1)));
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += PIECE) text += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  return btoa(text);
}
