// The classifier: token ids through GPT-2's blocks, one vector read from them, and a linear head.
// Arrays are one-dimensional: row t of a matrix of T rows and D columns begins at t * D.

class Classifier {
  /**
   * `spec`: sizes, classes, how texts are cut and read: what `_told` in __init__.py says.
   * `weights`: Float32Arrays under the names of the checkpoint; linear layers are stored as (outputs, inputs).
   */
  constructor(spec, weights) {
    this.spec = spec;
    this.weights = weights;
    this.linear = this.linearLayers();
    this.tokenizer = new Tokenizer(spec.vocabulary);
    this.breath = performance.now();
  }

  /**
   * Probabilities of a text.
   *
   * `trace`: also those after each token; only where `spec.trace`. `signal`: an AbortSignal.
   * Returns `probabilities` by class, `tokens` of the text, `kept` of them, and with `trace` the `pieces` of the text
   * with the `probabilities` after each.
   */
  async classify(text, {trace = false, signal} = {}) {
    const {spec} = this;
    const ids = this.tokenizer.encode(text);
    const kept = this.cut(ids);
    const windows = this.windows(kept), row = windows.flat(), hidden = [];
    for (const window of windows) hidden.push(await this.hidden(window, signal));
    const pooling = new Pooling(spec.pooling, spec.window ?? Infinity, spec.width);
    const words = spec.bag_of_tokens ? new BagOfTokens(this.weights, spec.classes.length) : null;
    const found = {tokens: ids.length, kept: kept.length, pieces: []};
    const after = [], fresh = [];
    for (let t = 0; t < row.length; t++) {
      const size = spec.window ?? row.length, place = t % size;
      const summary = pooling.add(hidden[(t - place) / size].subarray(place * spec.width, (place + 1) * spec.width), t);
      words?.add(row[t]);
      if (trace && t >= size && place < spec.overlap) continue; // a repeat of the window before
      if (!trace && t < row.length - 1) continue;
      after.push(this.probabilities(summary, words));
      fresh.push(row[t]);
    }
    if (trace) found.pieces = this.tokenizer.pieces(fresh).map((piece, i) => ({text: piece, probabilities: after[i]}));
    return {...found, probabilities: after.at(-1)};
  }

  /** The layers of the blocks, whose weights move to a memory of their own. */
  linearLayers() {
    const {spec, weights} = this, layers = {};
    for (let i = 0; i < spec.depth; i++) for (const part of ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]) {
      const name = `backbone.h.${i}.${part}`;
      layers[name] = {weight: weights[`${name}.weight`], bias: weights[`${name}.bias`]};
      delete weights[`${name}.weight`];
    }
    return new LinearLayers(layers, spec.window ?? spec.max_length);
  }

  /** What is read of a text that has more tokens than `max_length`. */
  cut(ids) {
    const {max_length: room, truncate} = this.spec;
    if (ids.length <= room) return ids;
    if (truncate === "error") throw new TooLong(ids.length, room);
    const first = {head: room, tail: 0, head_tail: Math.floor((room + 2) / 4)}[truncate];
    return [...ids.slice(0, first), ...ids.slice(ids.length - (room - first))];
  }

  /** The parts of a text that are read each by itself, which overlap; without windows the whole text. */
  windows(ids) {
    const {window, overlap} = this.spec;
    if (!window) return [ids];
    const found = [];
    for (let start = 0; start < Math.max(ids.length - overlap, 1); start += window - overlap)
      found.push(ids.slice(start, start + window));
    return found;
  }

  /** Hidden states after the final norm, (T, D), of T token ids. */
  async hidden(ids, signal) {
    const T = ids.length, x = this.embed(ids);
    for (let i = 0; i < this.spec.depth; i++) {
      const block = `backbone.h.${i}`;
      const read = this.linear.apply(`${block}.attn.c_attn`, this.norm(x, `${block}.ln_1`), T);
      add(x, this.linear.apply(`${block}.attn.c_proj`, this.attend(read, T), T));
      await this.breathe(signal);
      const inner = this.linear.apply(`${block}.mlp.c_fc`, this.norm(x, `${block}.ln_2`), T);
      add(x, this.linear.apply(`${block}.mlp.c_proj`, gelu(inner), T));
      await this.breathe(signal);
    }
    return this.norm(x, "backbone.ln_f");
  }

  /** What the first block reads, (T, D): the vectors of tokens and of positions, added. */
  embed(ids) {
    const {width: D} = this.spec, x = this.weights["backbone.wpe.weight"].slice(0, ids.length * D);
    const tokens = this.weights["backbone.wte.weight"];
    ids.forEach((id, t) => add(x.subarray(t * D, (t + 1) * D), tokens.subarray(id * D, (id + 1) * D)));
    return x;
  }

  /** Layer norm of each row. */
  norm(x, name) {
    const {width: D} = this.spec, scale = this.weights[`${name}.weight`], shift = this.weights[`${name}.bias`];
    const y = new Float32Array(x.length);
    for (let row = 0; row < x.length; row += D) {
      let mean = 0, variance = 0;
      for (let d = 0; d < D; d++) mean += x[row + d] / D;
      for (let d = 0; d < D; d++) variance += (x[row + d] - mean) ** 2 / D;
      const factor = 1 / Math.sqrt(variance + 1e-5);
      for (let d = 0; d < D; d++) y[row + d] = (x[row + d] - mean) * factor * scale[d] + shift[d];
    }
    return y;
  }

  /** Attention: (T, 3D), queries, keys and values side by side, to (T, D). */
  attend(read, T) {
    const {width: D, heads} = this.spec, size = D / heads, rows = roundUp(T);
    const y = new Float32Array(T * D);
    for (let head = 0; head < heads; head++) {
      const queries = new Float32Array(rows * size), keys = new Float32Array(rows * size);
      const values = new Float32Array(size * rows); // transposed
      for (let t = 0; t < T; t++) for (let d = 0; d < size; d++) {
        const from = t * 3 * D + head * size + d;
        queries[t * size + d] = read[from] / Math.sqrt(size);
        keys[t * size + d] = read[from + D];
        values[d * rows + t] = read[from + 2 * D];
      }
      const scores = this.linear.multiply(queries, keys, rows, size, rows);
      const mixed = this.linear.multiply(this.softmax(scores, T, rows), values, rows, rows, size);
      for (let t = 0; t < T; t++) y.set(mixed.subarray(t * size, (t + 1) * size), t * D + head * size);
    }
    return y;
  }

  /** Scores (rows, rows) to weights, in place: of each of T tokens, 0 for those that it does not see. */
  softmax(scores, T, rows) {
    for (let t = 0; t < T; t++) {
      const row = scores.subarray(t * rows, (t + 1) * rows), visible = this.spec.causal ? t + 1 : T;
      let largest = -Infinity, total = 0;
      for (let s = 0; s < visible; s++) if (row[s] > largest) largest = row[s];
      for (let s = 0; s < visible; s++) total += row[s] = Math.exp(row[s] - largest);
      for (let s = 0; s < visible; s++) row[s] /= total;
      row.fill(0, visible);
    }
    return scores;
  }

  /** Calibrated probabilities from a pooled vector and what the tokens say. */
  probabilities(summary, words) {
    const {classes, temperature} = this.spec;
    const logits = logitsOf(summary, this.weights["head.weight"], this.weights["head.bias"]);
    if (words) add(logits, words.logits());
    const largest = logits.reduce((one, other) => Math.max(one, other));
    const powers = Array.from(logits, logit => Math.exp((logit - largest) / temperature));
    const total = powers.reduce((one, other) => one + other);
    return classes.map((_, c) => powers[c] / total);
  }

  /** Lets the page answer clicks every now and then, and ends what was cancelled. */
  async breathe(signal) {
    if (performance.now() - this.breath < 30) return;
    await new Promise(resolve => { // a timer would be slowed down in a tab that is not in front
      const channel = new MessageChannel();
      channel.port1.onmessage = () => { channel.port1.close(); resolve(); };
      channel.port2.postMessage(null);
    });
    signal?.throwIfAborted();
    this.breath = performance.now();
  }
}

/** A text that `truncate=error` does not cut. */
class TooLong extends Error {
  constructor(tokens, room) { super(`too long: ${tokens} tokens, where ${room} are read at most`); }
}

/** One vector from the hidden states so far. `size`: tokens of a window. */
class Pooling {
  constructor(name, size, width) {
    this.name = name;
    this.size = size;
    this.current = new Float32Array(width);      // max: the largest so far; one position: that of this window
    this.total = new Float64Array(width);        // mean: of all positions; one position: of the windows before
    this.windows = 0;
  }

  /** Takes in the hidden state of token t, and gives the vector of the text up to it. */
  add(state, t) {
    const {name, current, total} = this;
    const begins = t % this.size === 0;
    if (name === "max") return current.forEach((value, d) => { current[d] = t ? Math.max(value, state[d]) : state[d]; }), current;
    if (name === "mean") return add(total, state), Float32Array.from(total, value => value / (t + 1));
    if (begins) add(total, this.windows++ ? current : []);
    if (begins || name === "last_token") current.set(state);
    return current.map((value, d) => (total[d] + value) / this.windows);
  }
}

/** A linear model of TF-IDF of the tokens so far: each distinct token counts once, in a vector of length 1. */
class BagOfTokens {
  constructor(weights, classes) {
    this.idf = weights["words.idf"];
    this.weight = weights["words.weight"]; // (V, C)
    this.seen = new Set();
    this.total = new Float64Array(classes);
    this.squares = 0;
  }

  add(id) {
    if (this.seen.has(id)) return;
    this.seen.add(id);
    const idf = this.idf[id], classes = this.total.length;
    this.squares += idf ** 2;
    for (let c = 0; c < classes; c++) this.total[c] += idf * this.weight[id * classes + c];
  }

  logits() {
    const length = Math.max(Math.sqrt(this.squares), 1e-12);
    return this.total.map(value => value / length);
  }
}

/** Logits of the classes from one vector. */
function logitsOf(summary, weight, bias) {
  return bias.map((start, c) => {
    let sum = start;
    for (let d = 0; d < summary.length; d++) sum += summary[d] * weight[c * summary.length + d];
    return sum;
  });
}

/** GPT-2's tanh form of GELU, in place: 0.5 (1 + tanh u) is the logistic function of 2u. */
function gelu(x) {
  const factor = 2 * Math.sqrt(2 / Math.PI);
  for (let i = 0; i < x.length; i++) {
    const value = x[i];
    x[i] = value / (1 + Math.exp(-factor * (value + 0.044715 * value * value * value)));
  }
  return x;
}

/** x += y. */
function add(x, y) {
  for (let i = 0; i < y.length; i++) x[i] += y[i];
}
