"use strict";
// The explorer of a source of fields and of curves of scores.

const FRAME_MILLISECONDS = 300;

/** A labeled choice of names, which calls `changed` with a position. */
function choice(parent, label, names, changed, chosen = 0) {
  const wrapper = element("label", `${label} `);
  const select = element("select");
  names.forEach((name, index) => select.append(element("option", name, { value: String(index) })));
  select.value = String(chosen);
  select.addEventListener("change", () => changed(Number(select.value)));
  wrapper.append(select);
  parent.append(wrapper);
  return select;
}

/** Words for a place. */
function placeName(grid, row, column) {
  const [y, x] = [grid.y[row], grid.x[column]];
  if (!grid.onSphere) return grid.y.length > 1 ? `y ${formatNumber(y)}, x ${formatNumber(x)}` : `x ${formatNumber(x)}`;
  return `${degrees(y, "N", "S")}, ${degrees(x > 180 ? x - 360 : x, "E", "W")}`;
}

function degrees(value, positive, negative) {
  const side = value > 0 ? positive : negative;
  return `${Number(Math.abs(value).toFixed(2))}°${value === 0 ? "" : side}`;
}

/** Edges between numbers that increase, such as lead times. */
function edgesBetween(numbers) {
  if (numbers.length < 2) return [numbers[0] - 0.5, numbers[0] + 0.5];
  const middles = numbers.slice(1).map((number, i) => (number + numbers[i]) / 2);
  const last = numbers.length - 1;
  return [2 * numbers[0] - middles[0], ...middles, 2 * numbers[last] - middles[last - 1]];
}

/** The map, its controls, and the values at a point. */
function exploreFields(parent, source) {
  const { axes } = source;
  const { grid } = axes;
  const isLine = grid.y.length === 1; // drawn as space and time
  const names = axes.views.map((view) => view.name);
  const state = { channel: 0, init: 0, shown: names.length > 1 ? 1 : 0, minus: -1, lead: 0, cell: null };
  let drawn = null; // what the map shows: {values, precision, image}
  let latest = 0; // request of a field; answers to earlier ones are dropped

  const controls = parent.appendChild(element("div", "", { class: "controls" }));
  const change = (name, also) => (value) => {
    state[name] = value;
    also?.();
    return update();
  };
  choice(controls, "Channel", axes.channels.map((c) => c.name), change("channel"));
  choice(controls, "Initial time", axes.initTimes, change("init"));
  choice(controls, "Show", names, change("shown"), state.shown);
  choice(controls, "minus", ["nothing", ...names], (index) => change("minus")(index - 1));

  const player = parent.appendChild(element("div", "", { class: "controls" }));
  const play = player.appendChild(element("button", "Play", { type: "button", "aria-pressed": "false" }));
  const sliderLabel = player.appendChild(element("label", "Lead time "));
  const slider = element("input", "", { type: "range", min: "0", max: String(axes.leads.length - 1), step: "1", value: "0" });
  sliderLabel.append(slider);
  const leadText = player.appendChild(element("span", "", { class: "lead" }));
  slider.addEventListener("input", () => change("lead")(Number(slider.value)));

  const map = parent.appendChild(element("div", "", { class: "map" }));
  const bar = parent.appendChild(element("div", "", { class: "bar" }));
  const readout = parent.appendChild(element("p", "", { class: "readout", role: "status" }));
  const seriesTitle = parent.appendChild(element("h3", "Values at a point"));
  const series = parent.appendChild(element("div", "Click a point of the map, or press Enter on it.", { class: "series" }));

  function kind() {
    if (state.minus >= 0) return "difference";
    return axes.views[state.shown].kind === "spread" ? "spread" : "values";
  }
  const units = () => axes.channels[state.channel].units;
  const title = () => names[state.shown] + (state.minus >= 0 ? ` minus ${names[state.minus]}` : "");

  /** Values of a view at a lead time, or of a line at all lead times. */
  async function valuesOf(view) {
    if (!isLine) return source.field(state.channel, state.init, view, state.lead);
    const fields = await Promise.all(axes.leads.map((_, lead) => source.field(state.channel, state.init, view, lead)));
    const values = new Float32Array(fields.length * grid.x.length);
    fields.forEach((field, lead) => values.set(field.values, lead * grid.x.length));
    return { values, precision: Math.max(...fields.map((field) => field.precision)) };
  }

  async function update() {
    latest += 1;
    const request = latest;
    const shown = await valuesOf(state.shown);
    const other = state.minus >= 0 ? await valuesOf(state.minus) : null;
    if (request !== latest) return;
    const values = other ? shown.values.map((value, i) => value - other.values[i]) : shown.values;
    const precision = shown.precision + (other ? other.precision : 0);
    const [limits, colors] = [axes.channels[state.channel].limits[kind()], axes.colorMaps[kind()]];
    const rows = values.length / grid.x.length;
    drawn = { values, precision, image: paint(values, rows, grid.x.length, limits, colors), land: grid.land };
    const lead = axes.leads[state.lead];
    slider.value = String(state.lead);
    slider.setAttribute("aria-valuetext", lead.label);
    leadText.textContent = lead.label;
    map.dataset.shown = [state.channel, state.init, state.shown, state.minus, state.lead].join(" ");
    if (isLine) map.chart.mark(lead.number);
    map.chart.redraw();
    const label = `${axes.channels[state.channel].name}: ${title()}${inBrackets(units())}`;
    const key = JSON.stringify([limits, label]);
    if (bar.dataset.key !== key) {
      bar.dataset.key = key;
      colorBar(bar, limits, colors, label);
    }
    describe(state.hovered);
    await drawSeries();
  }

  /** Write the value and the place of a cell of the map. */
  function describe(cell) {
    state.hovered = cell ?? state.hovered;
    if (!state.hovered || !drawn) {
      readout.textContent = "Move over the map, touch it, or use the arrow keys on it, to read values.";
      return;
    }
    const [row, column] = state.hovered;
    const value = drawn.values[row * grid.x.length + column];
    const lead = axes.leads[isLine ? row : state.lead].label;
    const number = formatNumber(value, drawn.precision);
    const isKnown = !Number.isNaN(value);
    const precision = isKnown && drawn.precision ? ` ± ${drawn.precision.toPrecision(1)}` : "";
    const unit = isKnown && units() !== "1" ? ` ${units()}` : "";
    const place = placeName(grid, isLine ? 0 : row, column);
    readout.textContent = `${title()} at ${place} after ${lead}: ${number}${precision}${unit}`;
  }

  async function drawSeries() {
    const key = [state.channel, state.init, state.cell].join(" ");
    if (state.cell === null || series.dataset.key === key) return;
    series.dataset.key = key;
    const [cell, channel] = [state.cell, axes.channels[state.channel]];
    const found = await Promise.all(axes.views.map((_, view) => source.series(state.channel, state.init, view, cell)));
    if (series.dataset.key !== key) return;
    const spreads = new Map(axes.views.map((view, index) => [view.mean, index]).filter(([mean]) => mean !== null));
    const lines = [];
    axes.views.forEach((view, index) => {
      if (view.kind === "spread") return;
      const { values } = found[index];
      const line = { name: view.name, values, color: view.color };
      if (view.kind === "member") Object.assign(line, { width: 1, alpha: 0.6, dash: [4, 3] });
      if (spreads.has(index)) {
        const spread = found[spreads.get(index)].values;
        line.name += " ± spread";
        line.low = values.map((value, i) => value - spread[i]);
        line.high = values.map((value, i) => value + spread[i]);
      }
      lines.push(line);
    });
    const place = placeName(grid, Math.floor(cell / grid.x.length), cell % grid.x.length);
    seriesTitle.textContent = `${channel.name} at ${place}, from ${axes.initTimes[state.init]}`;
    series.dataset.lines = JSON.stringify(lines.map((line) => line.name));
    lineChart(series, {
      label: seriesTitle.textContent, x: axes.leads.map((lead) => lead.number),
      xLabels: axes.leads.map((lead) => lead.label), xAxis: axes.leadAxis,
      yLabel: channel.name + inBrackets(channel.units), lines,
    });
  }

  function choosePoint(row, column) {
    if (isLine) change("lead")(row);
    state.cell = isLine ? column : row * grid.x.length + column;
    map.chart.select(row, column);
    describe([row, column]);
    return drawSeries();
  }

  function build() {
    const yEdges = isLine ? edgesBetween(axes.leads.map((lead) => lead.number)) : grid.yEdges;
    const onSphere = (positive, negative) => (chart, splits) => splits.map((v) => degrees(v > 180 ? v - 360 : v, positive, negative));
    const chart = mapChart(map, {
      label: "Map: the arrow keys move the point that is described below, Enter draws its values by lead time",
      aspect: isLine ? 2 : grid.aspect, xEdges: grid.xEdges, yEdges,
      xAxis: grid.onSphere ? { values: onSphere("E", "W"), incrs: [1, 2, 5, 10, 15, 30, 45, 60, 90] } : { label: grid.dims[1], size: 32 },
      yAxis: grid.onSphere
        ? { values: onSphere("N", "S"), incrs: [1, 2, 5, 10, 15, 30, 45], size: 50 }
        : { label: isLine ? axes.leadAxis : grid.dims[0], size: axisSize },
      picture: () => drawn, hover: describe, choose: choosePoint,
    });
    bar.style.maxWidth = map.style.maxWidth;
    if (state.cell !== null) {
      const row = isLine ? state.lead : Math.floor(state.cell / grid.x.length);
      chart.select(row, state.cell % grid.x.length);
    }
    delete bar.dataset.key;
    delete series.dataset.key;
    return update();
  }

  let timer = null;
  function stop() {
    clearTimeout(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  async function step() {
    await change("lead")((state.lead + 1) % axes.leads.length);
    if (timer !== null) timer = setTimeout(step, FRAME_MILLISECONDS);
  }
  play.addEventListener("click", () => {
    if (timer !== null) {
      stop();
      return;
    }
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = setTimeout(step, 0);
  });
  for (const note of axes.notes) parent.append(element("p", note, { class: "legend" }));
  darkScreen.addEventListener("change", build);
  return build();
}

/** Curves of scores by lead time. */
function exploreCurves(parent, record) {
  const state = { metric: 0, region: 0, channel: 0 };
  parent.append(element("h3", "Scores by lead time"));
  const controls = parent.appendChild(element("div", "", { class: "controls" }));
  const chart = element("div", "", { class: "curves" });
  const change = (name) => (value) => {
    state[name] = value;
    draw();
  };
  choice(controls, "Score", record.metrics.map((metric) => metric.label), change("metric"));
  choice(controls, "Region", record.regions, change("region"));
  choice(controls, "Channel", record.channels.map((channel) => channel.name), change("channel"));
  parent.append(chart);
  if (record.numFurther) parent.append(element("p", `${record.numFurther} further channels: see the table.`, { class: "legend" }));

  function draw() {
    const [metric, channel] = [record.metrics[state.metric], record.channels[state.channel]];
    const squared = channel.units === "1" ? "" : `(${channel.units})²`;
    const units = { same: channel.units, squared, none: "" }[metric.units];
    const at = (numbers, index) => numbers?.[state.region][state.channel][index];
    const lines = record.forecasts
      .map(({ name, color }, index) => ({
        name, color, values: at(metric.values, index), low: at(metric.low, index), high: at(metric.high, index),
      }))
      .filter((line) => line.values.some((value) => value !== null));
    const label = `${metric.label} of ${channel.name}, ${record.regions[state.region]}`;
    chart.dataset.shown = [state.metric, state.region, state.channel].join(" ");
    lineChart(chart, {
      label, x: record.leads.map((lead) => lead.number), xLabels: record.leads.map((lead) => lead.label),
      xAxis: record.leadAxis, yLabel: metric.label + inBrackets(units), lines,
    });
  }
  darkScreen.addEventListener("change", draw);
  draw();
}

/** Show a source of fields and a record of curves in a section; either may be null. */
async function explore(section, source, curves) {
  section.hidden = false;
  if (source) await exploreFields(section.appendChild(element("div", "", { class: "fields" })), source);
  if (curves) exploreCurves(section.appendChild(element("div", "", { class: "scores" })), curves);
  section.dataset.ready = "";
}
