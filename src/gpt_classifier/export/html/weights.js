// The weights, from the text that export/html/packing.py made: base85, then zlib, then three kinds of tensors.

const BASE85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=:?@^_`{|}~";

/** Bytes of a text in base85: five characters for four bytes. */
function decodeBase85(text) {
  const digits = new Uint8Array(128);
  for (let i = 0; i < 85; i++) digits[BASE85.charCodeAt(i)] = i;
  const padding = (5 - text.length % 5) % 5;
  const padded = text + "~".repeat(padding);
  const bytes = new Uint8Array(padded.length / 5 * 4);
  for (let i = 0, to = 0; i < padded.length; i += 5) {
    let number = 0;
    for (let j = i; j < i + 5; j++) number = number * 85 + digits[padded.charCodeAt(j)];
    for (let shift = 24; shift >= 0; shift -= 8) bytes[to++] = number >>> shift;
  }
  return bytes.subarray(0, bytes.length - padding);
}

/** What zlib compressed. */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Float32Arrays by name, from `[{name, shape, kind}, …]` and the bytes of all, one tensor after another. */
function unpack(tensors, bytes) {
  const weights = {};
  let start = 0;
  const take = length => bytes.subarray(start, start += length);
  const takeFloats = number => new Float32Array(take(4 * number).slice().buffer);
  for (const {name, shape, kind} of tensors) {
    const size = shape.reduce((product, n) => product * n, 1);
    if (kind === "float32") weights[name] = takeFloats(size);
    else if (kind === "bfloat16") weights[name] = fromBfloat16(take(size), take(size));
    else weights[name] = fromWholeNumbers(takeFloats(shape[0]), take(size), take(size), shape[1]);
  }
  return weights;
}

/** bfloat16 is the upper half of a float32: a sign, 8 bits of exponent and 7 of the fraction. */
function fromBfloat16(exponents, others) {
  const bits = new Uint32Array(exponents.length);
  for (let i = 0; i < bits.length; i++) bits[i] = (others[i] & 128) << 24 | exponents[i] << 23 | (others[i] & 127) << 16;
  return new Float32Array(bits.buffer);
}

/** Each is a whole number, its upper bits plus 128 in `high` and its lower five in `low`, times the scale of its row. */
function fromWholeNumbers(scales, high, low, columns) {
  const values = new Float32Array(high.length);
  for (let i = 0; i < values.length; i++) values[i] = ((high[i] - 128) * 32 + low[i]) * scales[Math.floor(i / columns)];
  return values;
}
