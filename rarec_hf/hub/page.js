// What HTML alone cannot: the keyboard's focus follows a title that moves, and the map names the nearest point.
() => {
  const page = () => document.getElementById("rr-page");
  let wanted = null;

  document.addEventListener("click", (event) => {
    const button = event.target.closest("#rr-history button[data-act]");
    if (!button || button.getAttribute("aria-disabled") === "true") return;
    const at = Number(button.dataset.at), last = document.querySelectorAll("#rr-history li").length - 1;
    const { act } = button.dataset;
    if (act === "up") wanted = `up-${at - 1}`;
    else if (act === "down") wanted = `down-${at + 1}`;
    else if (act === "remove") wanted = last > 0 ? `remove-${Math.min(at, last - 1)}` : "search";
    else if (act === "clear") wanted = "search";
  });

  new MutationObserver((changes) => {
    if (wanted === null || !changes.some((c) => c.target.parentElement?.closest("#rr-history"))) return;
    const found = wanted === "search" ? document.querySelector("#rr-search textarea, #rr-search input")
      : document.querySelector(`#rr-history [data-key="${wanted}"]`);
    wanted = null;
    found?.focus();
    found?.select?.(); // in the search: what is typed next takes the place of what stands there
  }).observe(document.body, { subtree: true, childList: true, characterData: true });

  // The map ------------------------------------------------------------------------------------------------------

  const tip = document.createElement("div");
  tip.id = "rr-tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  let step = -1;

  const points = () => [
    ...[...document.querySelectorAll("#rr-map-marks g[data-title]")].map((g) => [+g.dataset.x, +g.dataset.y, g]),
    ...[...document.querySelectorAll("#rr-map-items circle")].map((c) => [+c.getAttribute("cx"), +c.getAttribute("cy"), c]),
  ];

  const show = (svg, x, y, node) => {
    const frame = document.getElementById("rr-map-frame");
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    tip.textContent = node.dataset.title; // never as HTML
    frame.append(tip);
    tip.hidden = false;
    const room = frame.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(room, x * scale - tip.offsetWidth / 2))}px`;
    tip.style.top = `${y * scale + (y * scale < 60 ? 14 : -tip.offsetHeight - 12)}px`;
  };

  const pointed = (event) => {
    const svg = event.target.closest?.("svg.rr-map");
    if (!svg) { if (document.activeElement?.closest?.("svg.rr-map") == null) tip.hidden = true; return; }
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = 12 * scale;
    for (const [px, py, node] of points()) {
      const distance = Math.hypot(px - x, py - y) - (node.tagName === "g" ? 6 : 0);
      if (distance < least) { least = distance; best = [px, py, node]; }
    }
    if (best) show(svg, ...best);
    else tip.hidden = true;
  };
  document.addEventListener("pointermove", pointed);
  document.addEventListener("pointerdown", pointed);

  document.addEventListener("keydown", (event) => {
    const svg = document.activeElement?.closest?.("svg.rr-map-marks");
    if (!svg) return;
    const marks = points().filter(([, , node]) => node.tagName === "g");
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") tip.hidden = true;
    if (!by || !marks.length) return;
    event.preventDefault();
    step = step < 0 && by < 0 ? marks.length - 1 : (step + by + marks.length) % marks.length;
    show(svg, ...marks[step]);
  });
  document.addEventListener("focusout", (event) => {
    if (event.target.closest?.("svg.rr-map-marks")) { tip.hidden = true; step = -1; }
  });
  page()?.setAttribute("data-ready", "true"); // the listeners are there
}
