// GPT-2's byte-level BPE (Radford et al., 2019): a text is split into pieces, and the bytes of each are merged into tokens.

const SPACE = "\\p{White_Space}"; // \s of JavaScript is another set of characters
const GPT2_SPLIT = new RegExp(
  `'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+$|${SPACE}+(?=${SPACE})|${SPACE}`, "gu");

class Tokenizer {
  /** `vocabulary`: base64 of each token's bytes, by id, with a space between them. */
  constructor(vocabulary) {
    this.tokens = vocabulary.split(" ").map(atob); // a string holds bytes: one character each
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
  }

  /** Token ids of a text. */
  encode(text) {
    const encoder = new TextEncoder();
    const ids = [];
    for (const [piece] of text.matchAll(GPT2_SPLIT)) {
      const bytes = Array.from(encoder.encode(piece), byte => String.fromCharCode(byte));
      for (const token of this.merge(bytes)) ids.push(this.ids.get(token));
    }
    return ids;
  }

  /** The tokens of a piece: of all neighbours that together are a token, those with the lowest id are merged first. */
  merge(bytes) {
    const whole = bytes.join("");
    if (this.ids.has(whole)) return [whole];
    const parts = bytes;                                     // by where they begin; undefined where one was merged away
    const next = parts.map((_, i) => i + 1), before = parts.map((_, i) => i - 1);
    const pairs = new Queue();
    const pairAt = i => next[i] < parts.length ? this.ids.get(parts[i] + parts[next[i]]) : undefined;
    const offer = i => {
      const id = pairAt(i);
      if (id !== undefined) pairs.push(id, i);
    };
    parts.forEach((_, i) => offer(i));
    while (pairs.size) {
      const [id, i] = pairs.pop();
      if (parts[i] === undefined || pairAt(i) !== id) continue; // a part of it was merged with another neighbour
      const merged = next[i];
      parts[i] += parts[merged];
      parts[merged] = undefined;
      next[i] = next[merged];
      if (next[i] < parts.length) before[next[i]] = i;
      offer(i);
      if (before[i] >= 0) offer(before[i]);
    }
    return parts.filter(part => part !== undefined);
  }

  /** The part of the text that each token is; a character of several tokens is with the last of them. */
  pieces(ids) {
    const decoder = new TextDecoder("utf-8", {ignoreBOM: true});
    return ids.map((id, i) => {
      const bytes = Uint8Array.from(this.tokens[id], character => character.charCodeAt(0));
      return decoder.decode(bytes, {stream: i < ids.length - 1});
    });
  }
}

/** Places by rank, the lowest first, and of equal ranks the first place: a binary heap. */
class Queue {
  constructor() { this.heap = []; }

  get size() { return this.heap.length; }

  push(rank, place) {
    const heap = this.heap, key = rank * 2 ** 32 + place; // one number each: exact up to 2^53
    let i = heap.push(key) - 1;
    for (let parent = (i - 1) >> 1; i > 0 && heap[parent] > key; parent = (i - 1) >> 1) {
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = key;
  }

  pop() {
    const heap = this.heap, lowest = heap[0], key = heap.pop();
    for (let i = 0; heap.length && i < heap.length;) {
      let child = 2 * i + 1;
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
      if (child >= heap.length || heap[child] >= key) {
        heap[i] = key;
        break;
      }
      heap[i] = heap[child];
      i = child;
    }
    return [Math.floor(lowest / 2 ** 32), lowest % 2 ** 32];
  }
}
