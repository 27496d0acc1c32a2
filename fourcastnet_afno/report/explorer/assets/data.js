"use strict";
// Sources of fields, see the header of the Python room: {axes, field, series}. The record of axes is
// what the Python module `axes` writes.

/** Bytes of base64. */
function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Bytes of deflated bytes. */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Values of JSON that was deflated, in base64. */
async function inflateJson(text) {
  return JSON.parse(new TextDecoder().decode(await inflate(decodeBase64(text))));
}

/** Integers of a block (lead, row, column), see the Python module `packed`. */
function unfold(bytes, [leads, rows, columns]) {
  const size = leads * rows * columns;
  const integers = new Uint16Array(size);
  for (let i = 0; i < size; i += 1) {
    const folded = bytes[i] | (bytes[size + i] << 8);
    integers[i] = (folded >> 1) ^ -(folded & 1);
  }
  const cells = rows * columns;
  for (let i = 0; i < size; i += 1) if (i % cells >= columns) integers[i] += integers[i - columns];
  for (let i = 0; i < size; i += 1) if (i % columns) integers[i] += integers[i - 1];
  for (let i = cells; i < size; i += 1) integers[i] += integers[i - cells];
  return integers;
}

const NO_VALUE = 65535;
const MOST_BLOCKS = 24; // that are kept unpacked

/** The source of fields that the page embeds: `textOf(key)` is the base64 of a block. */
function embeddedSource(record, textOf) {
  const { axes, scales } = record;
  const shape = [axes.leads.length, axes.grid.y.length, axes.grid.x.length];
  const cells = shape[1] * shape[2];
  const known = new Map();

  async function block(channel, init, view) {
    const key = `${channel}-${init}-${view}`;
    let found = known.get(key);
    if (found) known.delete(key); // and back in as the newest
    else found = inflate(decodeBase64(textOf(key))).then((bytes) => unfold(bytes, shape));
    known.set(key, found);
    if (known.size > MOST_BLOCKS) known.delete(known.keys().next().value);
    const [low, quantum] = scales[key];
    return { integers: await found, low, quantum };
  }

  function pick({ integers, low, quantum }, count, position) {
    const values = Float32Array.from({ length: count }, (_, i) => {
      const integer = integers[position(i)];
      return integer === NO_VALUE ? NaN : low + quantum * integer;
    });
    return { values, precision: quantum / 2 };
  }

  return {
    axes,
    async field(channel, init, view, lead) {
      return pick(await block(channel, init, view), cells, (i) => lead * cells + i);
    },
    async series(channel, init, view, cell) {
      return pick(await block(channel, init, view), shape[0], (i) => i * cells + cell);
    },
  };
}
