// The one hot loop, x W^T + b, in WebAssembly's SIMD instructions: about ten times as fast as the same in JavaScript.
// It is assembled here, from the text format of the WebAssembly specification, so that the page holds no binary code.

const ROWS = 2, COLUMNS = 4; // rows of x and of the weight that are multiplied at once

const each = (count, line) => Array.from({length: count}, (_, i) => line(i)).join("\n");
const pairs = line => each(ROWS, r => each(COLUMNS, c => line(r, c)));

const PARAMETERS = ["x", "T", "I", "weight", "O", "bias", "y"];
const INTEGERS = ["length", "t", "o", "end", "to", ...Array.from({length: ROWS}, (_, r) => `x${r}`),
                  ...Array.from({length: COLUMNS}, (_, c) => `w${c}`)];
const VECTORS = ["w", ...Array.from({length: ROWS}, (_, r) => `value${r}`),
                 ...Array.from({length: ROWS * COLUMNS}, (_, i) => `sum${Math.floor(i / COLUMNS)}${i % COLUMNS}`)];

/**
 * For T rows of x and O rows of the weight, of I numbers each, all of them float32:
 * for o, for t: y[t * O + o] = bias[o] + the sum over i of x[t * I + i] * weight[o * I + i].
 * T is a multiple of ROWS, O of COLUMNS and I of 4; x, weight, bias and y are addresses.
 */
const LINEAR = `
  local.get $I  i32.const 2  i32.shl  local.set $length               ;; of a row in bytes
  loop
    i32.const 0  local.set $t
    loop
      ${each(ROWS, r => `                                             ;; where rows t, t + 1 of x begin
      local.get $x  local.get $t  i32.const ${r}  i32.add  local.get $length  i32.mul  i32.add  local.set $x${r}`)}
      ${each(COLUMNS, c => `                                          ;; where rows o to o + 3 of the weight begin
      local.get $weight  local.get $o  i32.const ${c}  i32.add  local.get $length  i32.mul  i32.add  local.set $w${c}`)}
      local.get $x0  local.get $length  i32.add  local.set $end
      ${pairs((r, c) => `v128.zero  local.set $sum${r}${c}`)}
      loop                                                            ;; four values of each row at a time
        ${each(ROWS, r => `local.get $x${r}  v128.load 0  local.set $value${r}
        local.get $x${r}  i32.const 16  i32.add  local.set $x${r}`)}
        ${each(COLUMNS, c => `local.get $w${c}  v128.load 0  local.set $w
        local.get $w${c}  i32.const 16  i32.add  local.set $w${c}
        ${each(ROWS, r => `local.get $sum${r}${c}  local.get $value${r}  local.get $w  f32x4.mul  f32x4.add  local.set $sum${r}${c}`)}`)}
      local.get $x0  local.get $end  i32.lt_u  br_if 0  end
      ${each(ROWS, r => `
      local.get $t  i32.const ${r}  i32.add  local.get $O  i32.mul  local.get $o  i32.add
      i32.const 2  i32.shl  local.get $y  i32.add  local.set $to
      ${each(COLUMNS, c => `local.get $to
      local.get $bias  local.get $o  i32.const 2  i32.shl  i32.add  f32.load ${4 * c}
      ${each(4, lane => `local.get $sum${r}${c}  f32x4.extract_lane ${lane}  f32.add`)}
      f32.store ${4 * c}`)}`)}
    local.get $t  i32.const ${ROWS}  i32.add  local.tee $t  local.get $T  i32.lt_u  br_if 0  end
  local.get $o  i32.const ${COLUMNS}  i32.add  local.tee $o  local.get $O  i32.lt_u  br_if 0  end
`;

/** The bytes of each instruction; numbers after one follow it as they are, and so do the numbers of locals. */
const CODES = {
  "local.get": [0x20], "local.set": [0x21], "local.tee": [0x22],
  "loop": [0x03, 0x40], "br_if": [0x0d], "end": [0x0b], // br_if 0 begins the innermost loop again
  "i32.const": [0x41], "i32.lt_u": [0x49], "i32.add": [0x6a], "i32.mul": [0x6c], "i32.shl": [0x74],
  "f32.load": [0x2a, 2], "f32.store": [0x38, 2], "f32.add": [0x92],
  "v128.load": [0xfd, 0, 2], "v128.zero": [0xfd, 12, ...new Array(16).fill(0)],
  "f32x4.extract_lane": [0xfd, 31], "f32x4.add": [0xfd, 0xe4, 1], "f32x4.mul": [0xfd, 0xe6, 1],
};

function assemble(text) {
  const locals = [...PARAMETERS, ...INTEGERS, ...VECTORS];
  const words = text.replace(/;;.*/g, "").match(/\S+/g);
  return words.flatMap(word => CODES[word] ?? [word[0] === "$" ? locals.indexOf(word.slice(1)) : Number(word)]);
}

/** A module with that function, as bytes: sections of types, imports, functions, exports and code. */
function linearModule() {
  const number = n => n < 128 ? [n] : [n & 127 | 128, ...number(n >> 7)];
  const list = items => [...number(items.length), ...items.flat()];
  const sized = bytes => [...number(bytes.length), ...bytes];
  const ascii = text => Array.from(text, character => character.charCodeAt(0));
  const name = text => sized(ascii(text));
  const i32 = 0x7f, v128 = 0x7b, locals = list([[INTEGERS.length, i32], [VECTORS.length, v128]]);
  const section = (id, items) => [id, ...sized(list(items))];
  return Uint8Array.from([
    ...ascii("\0asm"), 1, 0, 0, 0, // version 1
    ...section(1, [[0x60, ...list(PARAMETERS.map(() => i32)), 0]]),
    ...section(2, [[...name("page"), ...name("memory"), 2, 0, 1]]),
    ...section(3, [[0]]),
    ...section(7, [[...name("linear"), 0, 0]]),
    ...section(10, [sized([...locals, ...assemble(LINEAR), 0x0b])]),
  ]);
}

/** The weights of linear layers in one memory, beside room for what goes in and comes out. */
class LinearLayers {
  /** `layers`: `{weight, bias}` by name. `tokens`: most rows of x. */
  constructor(layers, tokens) {
    const all = Object.values(layers), rows = roundUp(tokens);
    const widest = Math.max(rows, ...all.map(({weight, bias}) => Math.max(bias.length, weight.length / bias.length)));
    const parts = [...all.flatMap(({weight, bias}) => [weight.length, bias.length]), ...new Array(4).fill(rows * widest)];
    const memory = new WebAssembly.Memory({initial: Math.ceil(4 * parts.reduce((sum, length) => sum + length) / 65536)});
    this.floats = new Float32Array(memory.buffer);
    this.zeros = 0;                             // addresses in floats
    [this.x, this.weight, this.y] = [1, 2, 3].map(i => i * rows * widest);
    let used = 4 * rows * widest;
    const place = values => { this.floats.set(values, used); used += values.length; return used - values.length; };
    this.layers = {};
    for (const [name, {weight, bias}] of Object.entries(layers))
      this.layers[name] = {weight: place(weight), bias: place(bias), O: bias.length, I: weight.length / bias.length};
    const {exports} = new WebAssembly.Instance(new WebAssembly.Module(linearModule()), {page: {memory}});
    this.linear = exports.linear;
  }

  /** What a layer makes of x: (T, I) to (T, O). */
  apply(name, x, T) {
    const {weight, bias, I, O} = this.layers[name];
    return this.run(x, T, I, weight, O, bias);
  }

  /** x W^T without a bias: (T, I) and (O, I) to (T, O); O and I are multiples of 4. */
  multiply(x, weight, T, I, O) {
    this.floats.set(weight, this.weight);
    return this.run(x, T, I, this.weight, O, this.zeros);
  }

  run(x, T, I, weight, O, bias) {
    this.floats.set(x, this.x);
    this.linear(4 * this.x, Math.ceil(T / ROWS) * ROWS, I, 4 * weight, O, 4 * bias, 4 * this.y);
    return this.floats.slice(this.y, this.y + T * O);
  }
}

/** To a multiple of 4. */
function roundUp(number) {
  return Math.ceil(number / 4) * 4;
}
