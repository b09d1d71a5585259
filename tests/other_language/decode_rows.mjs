// Reads `Rows` messages without Python, numpy or a protobuf library: `node decode_rows.mjs rows.json` prints what each says.
// Written from the protocol alone; it is also the shortest complete example of a reader in another language.
import { readFileSync } from "node:fs";

// Field number -> value: a BigInt for varints, a DataView for bytes and messages.
function fields(view) {
  const found = new Map();
  let at = 0;
  const varint = () => {
    for (let value = 0n, shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < view.byteLength) {
    const key = Number(varint());
    if ((key & 7) === 0) {
      found.set(key >> 3, varint());
    } else if ((key & 7) === 2) {
      const length = Number(varint());
      found.set(key >> 3, new DataView(view.buffer, view.byteOffset + at, length));
      at += length;
    } else throw new Error(`wire type ${key & 7} is not used by Rows`);
  }
  return found;
}

const EMPTY = new DataView(new ArrayBuffer(0));
const number = (message, field) => Number(message.get(field) ?? 0n);
const bytes = (message, field) => message.get(field) ?? EMPTY;

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 0x1f, fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 25) * (1024 + fraction) : sign * 2 ** -24 * fraction;
}

function bfloat(bits) {
  const word = new DataView(new ArrayBuffer(4));
  word.setUint32(0, bits * 65536);
  return word.getFloat32(0);
}

const plane = (view, size, read) => Array.from({ length: view.byteLength / size }, (_, i) => read(view, i * size));
const u8 = (view) => plane(view, 1, (v, i) => v.getUint8(i));
const u16 = (view) => plane(view, 2, (v, i) => v.getUint16(i, true));
const u32 = (view) => plane(view, 4, (v, i) => v.getUint32(i, true));
const f32 = (view) => plane(view, 4, (v, i) => v.getFloat32(i, true));
const f16 = (view) => u16(view).map(half);
const bf16 = (view) => u16(view).map(bfloat);

function affine(codes, bases, steps, offsets) {
  const value = (code, row) =>
    code === 255 ? NaN : code === 254 ? -Infinity : Math.fround(bases[row] - Math.min(code, 252) * steps[row]);
  return bases.flatMap((_, row) => codes.slice(offsets[row], offsets[row + 1]).map((code) => value(code, row)));
}

function payload(view, count, headRows) {
  const message = fields(view), grade = number(message, 1), width = number(message, 2);
  const offsets = width ? Array.from({ length: count + 1 }, (_, row) => row * width) : u32(bytes(message, 3));
  const values = bytes(message, 4);
  const logprobs =
    grade === 0 ? f32(values)
    : grade === 1 ? f16(values)
    : affine(u8(values), f16(bytes(message, 5)), f16(bytes(message, 6)), offsets);
  const shape = width ? { width } : { offsets };
  if (!message.has(7)) return { ...shape, logprobs };
  const high = headRows > 65536 ? u8(bytes(message, 8)) : [];
  const ids = u16(bytes(message, 7)).map((low, i) => low + 65536 * (high[i] ?? 0));
  return { ...shape, ids, logprobs };
}

function rows(view, headRows) {
  const message = fields(view), count = number(message, 2);
  const result = { start: number(message, 1), count, validity: u8(bytes(message, 3)) };
  const columns = { sampled: 4, entropy: 5, tail: 6 }, lists = { topk: 7, candidates: 8, samples: 9 };
  for (const [name, field] of Object.entries(columns)) if (message.has(field)) result[name] = f32(message.get(field));
  for (const [name, field] of Object.entries(lists)) if (message.has(field)) result[name] = payload(message.get(field), count, headRows);
  if (message.has(10)) {
    const hidden = fields(message.get(10)), read = { 1: f32, 2: f16, 3: bf16 }[number(hidden, 1)];
    result.hidden = { width: number(hidden, 2), values: read(bytes(hidden, 3)) };
  }
  return result;
}

const shown = (_, value) => (Number.isNaN(value) ? null : value === -Infinity ? "-inf" : value);
const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const decoded = vectors.map(({ message, head_rows }) => {
  const raw = Uint8Array.from(message.match(/../g), (hex) => parseInt(hex, 16));
  return rows(new DataView(raw.buffer), head_rows);
});
console.log(JSON.stringify(decoded, shown));
