"use strict";
// Charts and maps of uPlot in the colors of the page, which keys move too.

/** A number for people: as many digits as its precision allows, or five. */
function formatNumber(value, precision) {
  if (value === null || value === undefined || Number.isNaN(value)) return "no value";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) {
    const digits = precision ? Math.ceil(Math.log10(size / precision)) : 4;
    return value.toExponential(Math.min(6, Math.max(1, digits)));
  }
  const decimals = precision ? Math.ceil(-Math.log10(precision)) : 4 - Math.floor(Math.log10(size || 1));
  const places = Math.min(8, Math.max(0, decimals));
  return value.toLocaleString("en-US", { minimumFractionDigits: precision ? places : 0, maximumFractionDigits: places });
}

/** Units in brackets, or nothing. */
const inBrackets = (units) => (units && units !== "1" ? ` [${units}]` : "");

/** A color of the style sheet. */
const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const darkScreen = matchMedia("(prefers-color-scheme: dark)");

/** A color of a line on this screen: black is ink, and on dark screens colors are lighter. */
function lineColor(color, alpha = 1) {
  const hex = color === "black" ? themed("--ink") : color;
  const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const lighter = darkScreen.matches && color !== "black";
  const [red, green, blue] = parts.map((part) => (lighter ? Math.round(part + 0.4 * (255 - part)) : part));
  return `rgba(${red},${green},${blue},${alpha})`;
}

/** An element with text, never markup. */
function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Axes of uPlot in the colors of the page. */
function styledAxis(options) {
  const line = { stroke: themed("--line"), width: 1 };
  return {
    stroke: themed("--ink"), grid: line, ticks: { ...line, size: 5 },
    font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 18, ...options,
  };
}

/** Width that a chart may take. */
const widthOf = (parent) => Math.max(240, Math.floor(parent.clientWidth));

/** A uPlot that follows the width of its parent and replaces what was there. */
function mount(parent, options, data) {
  parent.chart?.destroy();
  parent.replaceChildren();
  const chart = new uPlot({ ...options, width: widthOf(parent) }, data, parent);
  parent.chart = chart;
  parent.heightOf = options.heightOf ?? (() => options.height);
  parent.observer ??= new ResizeObserver(() => {
    const width = widthOf(parent);
    if (parent.chart.width !== width) parent.chart.setSize({ width, height: parent.heightOf(width) });
  });
  parent.observer.observe(parent);
  return chart;
}

/** Let a finger that slides along a chart hover over it; sliding up and down scrolls the page. */
function hoverByTouch(chart) {
  chart.over.style.touchAction = "pan-y pinch-zoom";
  chart.over.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") return;
    const box = chart.over.getBoundingClientRect();
    chart.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
  });
}

/** Make a chart an element that keys reach; `keys` maps their names to functions. */
function controlByKeys(chart, label, keys) {
  const attributes = { tabindex: "0", role: "application", "aria-label": label };
  for (const [name, value] of Object.entries(attributes)) chart.over.setAttribute(name, value);
  chart.over.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}

/** Curves with bands: each line is {name, values, color, [width], [dash], [low], [high]}. */
function lineChart(parent, { label, x, xLabels, xAxis, yLabel, lines, height = 280 }) {
  const series = [{ label: element("span", "lead time"), value: (u, v, s, i) => (i === null ? "–" : xLabels[i]) }];
  const data = [x];
  const bands = [];
  const clean = (values) => Array.from(values, (v) => (v === null || !Number.isFinite(v) ? null : v));
  for (const line of lines) {
    data.push(clean(line.values));
    series.push({
      label: element("span", line.name), stroke: lineColor(line.color, line.alpha), width: line.width ?? 2,
      dash: line.dash, points: { show: x.length < 3 },
      value: (u, v) => (v === null || v === undefined ? "–" : formatNumber(v)),
    });
    if (!line.low) continue;
    for (const bound of [line.high, line.low]) {
      data.push(clean(bound));
      series.push({ class: "bound", stroke: "transparent", width: 0, points: { show: false }, label: "" });
    }
    bands.push({ series: [series.length - 2, series.length - 1], fill: lineColor(line.color, 0.16) });
  }
  const options = {
    height, series, bands,
    scales: { x: { time: false } },
    axes: [styledAxis({ label: xAxis, size: 32 }), styledAxis({ label: yLabel, size: axisSize })],
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    legend: { markers: { width: 3 } },
  };
  const chart = mount(parent, options, data);
  hoverByTouch(chart);
  const show = (index) => {
    const at = Math.min(x.length - 1, Math.max(0, index));
    chart.setCursor({ left: chart.valToPos(x[at], "x"), top: chart.over.clientHeight / 2 });
  };
  controlByKeys(chart, `${label}; the arrow keys left and right show values`, {
    ArrowLeft: () => show((chart.cursor.idx ?? x.length) - 1),
    ArrowRight: () => show((chart.cursor.idx ?? -1) + 1),
    Home: () => show(0),
    End: () => show(x.length - 1),
  });
  return chart;
}

/** Width of the axis of values, as its longest label needs. */
function axisSize(chart, values, index, cycle) {
  const axis = chart.axes[index];
  if (cycle > 1) return axis._size;
  const longest = (values ?? []).reduce((most, text) => Math.max(most, String(text).length), 0);
  return 16 + 7 * longest;
}

/** Position of a number among increasing or decreasing edges, or -1. */
function cellAmong(edges, number) {
  const sign = edges[edges.length - 1] > edges[0] ? 1 : -1;
  if (sign * (number - edges[0]) < 0 || sign * (number - edges[edges.length - 1]) > 0) return -1;
  let cell = 0;
  while (cell < edges.length - 2 && sign * (number - edges[cell + 1]) >= 0) cell += 1;
  return cell;
}

/** An image of values, a pixel for each cell; cells without a value are clear. */
function paint(values, rows, columns, [low, high], colors) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const table = colors.map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isNaN(values[i])) continue;
    const share = (values[i] - low) / (high - low);
    const color = table[Math.min(table.length - 1, Math.max(0, Math.floor(share * table.length)))];
    image.data.set([...color, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Draw an image between the edges of its cells. */
function drawImage(chart, image, xEdges, yEdges) {
  const { ctx: context } = chart;
  const left = chart.valToPos(xEdges[0], "x", true);
  const width = chart.valToPos(xEdges[xEdges.length - 1], "x", true) - left;
  context.save();
  context.imageSmoothingEnabled = false;
  for (let row = 0; row < image.height; row += 1) {
    const ends = [yEdges[row], yEdges[row + 1]].map((edge) => Math.round(chart.valToPos(edge, "y", true)));
    const [top, bottom] = [Math.min(...ends), Math.max(...ends)];
    context.drawImage(image, 0, row, image.width, 1, left, top, width, bottom - top);
  }
  context.restore();
}

/** Lines between cells of land and of water; `land` has a text of 0 and 1 for each row. */
function drawCoast(chart, land, xEdges, yEdges) {
  const { ctx: context } = chart;
  const at = (column, row) => [chart.valToPos(xEdges[column], "x", true), chart.valToPos(yEdges[row], "y", true)];
  context.save();
  context.strokeStyle = "black";
  context.lineWidth = 1;
  context.beginPath();
  land.forEach((cells, row) => {
    for (let column = 0; column < cells.length; column += 1) {
      if (column && cells[column] !== cells[column - 1]) {
        context.moveTo(...at(column, row));
        context.lineTo(...at(column, row + 1));
      }
      if (row && cells[column] !== land[row - 1][column]) {
        context.moveTo(...at(column, row));
        context.lineTo(...at(column + 1, row));
      }
    }
  });
  context.stroke();
  context.restore();
}

const MOST_MAP_HEIGHT = 560;
const MAP_MARGINS = [70, 50]; // pixels of axes next to a map and below it

/**
 * A map of cells. `picture()` gives {image, xEdges, yEdges, [land]}, `hover(row, column)` and
 * `choose(row, column)` are told of cells. The chart has `select(row, column)`, which puts a dot
 * there, and `mark(y)`, which draws a line.
 */
function mapChart(parent, { label, aspect, xAxis, yAxis, xEdges, yEdges, picture, hover, choose }) {
  const ends = (edges) => [Math.min(edges[0], edges[edges.length - 1]), Math.max(edges[0], edges[edges.length - 1])];
  const heightOf = (width) => Math.round((width - MAP_MARGINS[0]) / aspect) + MAP_MARGINS[1];
  parent.style.maxWidth = `${Math.round(MOST_MAP_HEIGHT * aspect) + MAP_MARGINS[0]}px`;
  const middle = (edges, cell) => (edges[cell] + edges[cell + 1]) / 2;
  let at = null;
  const cellUnder = (chart) => {
    const { left, top } = chart.cursor;
    if (left === undefined || left < 0) return null;
    const column = cellAmong(xEdges, chart.posToVal(left, "x"));
    const row = cellAmong(yEdges, chart.posToVal(top, "y"));
    return row < 0 || column < 0 ? null : [row, column];
  };
  const options = {
    height: heightOf(widthOf(parent)), heightOf,
    legend: { show: false },
    scales: { x: { time: false, range: () => ends(xEdges) }, y: { range: () => ends(yEdges) } },
    series: [
      {},
      { paths: () => null, points: { show: true, size: 11, width: 2, stroke: "#000", fill: "#fff" } },
      { stroke: "#fff", width: 2, dash: [6, 4], spanGaps: true, points: { show: false } },
    ],
    axes: [styledAxis({ grid: { show: false }, ...xAxis }), styledAxis({ grid: { show: false }, ...yAxis })],
    cursor: { drag: { x: false, y: false }, points: { show: false } },
    hooks: {
      drawClear: [(chart) => {
        const drawn = picture();
        if (!drawn) return;
        drawImage(chart, drawn.image, xEdges, yEdges);
        if (drawn.land) drawCoast(chart, drawn.land, xEdges, yEdges);
      }],
      setCursor: [(chart) => {
        const cell = cellUnder(chart);
        if (cell) at = cell;
        hover(cell);
      }],
    },
  };
  const marks = { dot: [null, null], line: null };
  const drawMarks = () => {
    const [left, right] = ends(xEdges);
    const [x, y] = marks.dot;
    const places = x === null ? [left, right] : [left, x, right];
    chart.setData([places, places.map((place) => (place === x ? y : null)), places.map(() => marks.line)], false);
    chart.redraw();
  };
  const chart = mount(parent, options, [[], [], []]);
  hoverByTouch(chart);
  chart.over.addEventListener("click", () => {
    const cell = cellUnder(chart);
    if (cell) choose(...cell);
  });
  const move = (down, right) => {
    const [rows, columns] = [yEdges.length - 1, xEdges.length - 1];
    const [row, column] = at ?? [Math.floor(rows / 2), Math.floor(columns / 2)];
    const upward = yEdges[1] > yEdges[0] ? -1 : 1;
    at = [Math.min(rows - 1, Math.max(0, row + upward * down)), Math.min(columns - 1, Math.max(0, column + right))];
    chart.setCursor({ left: chart.valToPos(middle(xEdges, at[1]), "x"), top: chart.valToPos(middle(yEdges, at[0]), "y") });
  };
  controlByKeys(chart, label, {
    ArrowUp: () => move(-1, 0),
    ArrowDown: () => move(1, 0),
    ArrowLeft: () => move(0, -1),
    ArrowRight: () => move(0, 1),
    Enter: () => at && choose(...at),
    " ": () => at && choose(...at),
  });
  chart.select = (row, column) => {
    at = [row, column];
    marks.dot = [middle(xEdges, column), middle(yEdges, row)];
    drawMarks();
  };
  chart.mark = (y) => {
    marks.line = y;
    drawMarks();
  };
  return chart;
}

/** A bar of the colors between two numbers, with an axis. */
function colorBar(parent, [low, high], colors, label) {
  const options = {
    height: 64, legend: { show: false },
    scales: { x: { time: false, range: () => [low, high] }, y: { range: () => [0, 1] } },
    series: [{}, { paths: () => null, points: { show: false } }],
    axes: [styledAxis({ grid: { show: false }, label, size: 28 }), { show: false }],
    cursor: { show: false },
    padding: [4, 24, 0, 24],
    hooks: {
      drawClear: [(chart) => {
        const numbers = Float32Array.from(colors, (_, i) => low + ((i + 0.5) / colors.length) * (high - low));
        drawImage(chart, paint(numbers, 1, colors.length, [low, high], colors), [low, high], [0, 1]);
      }],
    },
  };
  return mount(parent, options, [[low, high], [null, null]]);
}
