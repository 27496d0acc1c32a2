"use strict";
// The page of a server, see the Python room `viewer`: fields are asked for when they are shown.

/** Share of a value that float32 may be off. */
const SINGLE = 2 ** -24;

/** The response to a request of the page's own server. */
async function ask(request) {
  const response = await fetch(request);
  if (!response.ok) throw new Error(await response.text());
  return response;
}

/** The source of fields of a server. */
async function servedSource() {
  const axes = await (await ask("axes")).json();

  async function values(request) {
    const found = new Float32Array(await (await ask(request)).arrayBuffer());
    const largest = found.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0);
    return { values: found, precision: largest * SINGLE };
  }

  return {
    axes,
    async field(channel, init, view, lead) {
      axes.channels[channel].limits ??= await (await ask(`limits?channel=${channel}`)).json();
      return values(`field?channel=${channel}&init=${init}&view=${view}&lead=${lead}`);
    },
    async series(channel, init, view, cell) {
      return values(`series?channel=${channel}&init=${init}&view=${view}&cell=${cell}`);
    },
  };
}

(async () => {
  const problem = document.querySelector("#problem");
  const report = (error) => {
    problem.textContent = `${error.message || error}. Is \`fourcastnet-afno view\` still running?`;
    problem.hidden = false;
  };
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    report(event.reason);
  });
  try {
    const curves = await (await ask("curves")).json();
    await explore(document.querySelector("section.explorer"), await servedSource(), curves);
  } catch (error) {
    report(error);
  }
})();
