"use strict";
// The report: its data are elements of the page.

(async () => {
  const section = document.querySelector("section.explorer");
  if (!section || typeof DecompressionStream === "undefined") return; // the pictures remain
  const textOf = (name) => document.querySelector(`script[data-explorer="${name}"]`)?.textContent ?? null;
  const [fields, curves] = [textOf("fields"), textOf("curves")];
  const source = fields ? embeddedSource(await inflateJson(fields), textOf) : null;
  for (const part of document.querySelectorAll("[data-needs-script]")) part.hidden = false;
  await explore(section, source, curves ? await inflateJson(curves) : null);
})();
