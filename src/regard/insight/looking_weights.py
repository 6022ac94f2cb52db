"""The first part of the script of `regard.insight.looking_page`: the weights that came with the page."""

WEIGHTS_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

// Numbers are little-endian, whatever the machine's order.
function integers(text, width) {
  const view = new DataView(bytes(text).buffer), count = view.byteLength / width;
  const found = new Float64Array(count);
  for (let i = 0; i < count; i++) found[i] = width === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
  return found;
}

class Attention {
  constructor(record) {
    this.record = record;
    this.rows = data.sequences[record.rows].texts.length;
    this.columns = data.sequences[record.columns].texts.length;
    this.weights = record.weights;
    this.pair = record.queries + " \\u2192 " + record.keys;
    this.complete = this.weights.kind === "all" && this.weights.heads.length === record.heads.length;
  }

  unpack() {
    if (this.values) return;
    this.values = integers(this.weights.values, 2);
    if (this.weights.kind === "top") this.places = integers(this.weights.places, 4);
  }

  // Adds the share of each column in a row (or of each row in a column) of one head to `into`.
  add(head, side, index, into, factor) {
    this.unpack();
    const at = this.weights.heads.indexOf(head);
    if (at < 0) return;
    const {rows, columns} = this;
    if (this.weights.kind === "all") {
      const start = at * rows * columns;
      if (side === "rows") {
        for (let j = 0; j < columns; j++) into[j] += factor * this.values[start + index * columns + j] / 65535;
      } else {
        for (let i = 0; i < rows; i++) into[i] += factor * this.values[start + i * columns + index] / 65535;
      }
      return;
    }
    const n = this.weights.n, start = at * rows * n;
    if (side === "rows") {
      for (let m = 0; m < n; m++) {
        const place = start + index * n + m;
        into[this.places[place]] += factor * this.values[place] / 65535;
      }
    } else {
      for (let place = start; place < start + rows * n; place++) {
        if (this.places[place] === index) {
          into[Math.floor((place - start) / n)] += factor * this.values[place] / 65535;
        }
      }
    }
  }

  heads(head) { return head === "mean" ? this.weights.heads : [head]; }

  has(head) { return head === "mean" ? this.complete : this.weights.heads.includes(head); }

  overview(head, into, factor) {
    const [down, across] = this.record.overview.cells, size = down * across;
    this.cells = this.cells || bytes(this.record.overview.values);
    const all = this.record.heads, heads = head === "mean" ? [...all.keys()] : [all.indexOf(head)];
    for (const one of heads) {
      const scale = factor * this.record.overview.largest[one] / 255 / heads.length;
      for (let i = 0; i < size; i++) into[i] += scale * this.cells[one * size + i];
    }
  }
}
"""
