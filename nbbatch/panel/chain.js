// The chain of a panel: a box per step, which chooses what all tabs are about; of a long chain a map above it.
const MAPPED = 8; // steps from which on there is a map
const HANDS_OFF_MS = 8000;

// How far each step is from the first: the column it stands in.
function ranks(steps) {
  const found = steps.map(() => 0);
  steps.forEach((step, place) => step.targets.forEach((to) => { found[to] = Math.max(found[to], found[place] + 1); }));
  return found;
}

function chainView(send) {
  const map = make("div", { class: "nbc-map", "aria-hidden": "true" });
  const row = make("div", { class: "nbc-steps", role: "toolbar", "aria-label": "Steps of the chain" });
  const only = make("div", { class: "nbc-only", "aria-live": "polite" });
  const node = make("section", { class: "nbc-chain", "aria-label": "Chain" }, map, row, only);
  let boxes = [];
  let cells = [];
  let shape = "";
  let chosen = null;
  let told = null;
  let active = -1;
  let touched = 0;
  for (const name of ["wheel", "pointerdown", "focusin"]) row.addEventListener(name, () => { touched = Date.now(); }, { passive: true });

  function choose(place) {
    chosen = place === chosen ? null : place;
    send({ do: "step", step: chosen });
    mark();
  }
  function mark() {
    boxes.forEach((box, place) => box.setAttribute("aria-pressed", String(place === chosen)));
    cells.forEach((cell, place) => cell.classList.toggle("nbc-chosen", place === chosen));
  }
  function move(event, place) {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: boxes.length - 1 }[event.key];
    if (to === undefined || !boxes[to]) return;
    event.preventDefault();
    rove(to);
    boxes[to].focus();
  }
  function rove(to) { boxes.forEach((box, place) => { box.tabIndex = place === to ? 0 : -1; }); }

  function box(step, place) {
    const parts = [make("b", { dir: "auto" }, step.name), make("span", { class: "nbc-mark" }), make("div", { class: "nbc-bar" }), make("span", {}), make("small", {})];
    const gate = step.gated ? { title: "gate: waits until all before it is done" } : {};
    return make("button", { type: "button", class: `nbc-step${step.gated ? " nbc-gated" : ""}`, "data-step": place, ...gate,
      onclick: () => choose(place), onkeydown: (event) => move(event, place), onfocus: () => rove(place) }, ...parts);
  }
  // Columns by distance from the first step, with what goes from one to the next between them.
  function build(steps) {
    boxes = steps.map(box);
    cells = steps.map((step, place) => make("button", { type: "button", tabindex: -1, title: step.name, onclick: () => { touched = 0; choose(place); show(place); } }, make("i", {})));
    map.hidden = steps.length <= MAPPED;
    map.replaceChildren(...(map.hidden ? [] : cells));
    const rank = ranks(steps);
    const parts = [];
    for (let at = 0; at <= Math.max(...rank); at++) {
      const here = boxes.filter((_, place) => rank[place] === at);
      const gives = [...new Set(steps.filter((_, place) => rank[place] === at && steps[place].targets.length).map((step) => step.gives))];
      parts.push(make("div", { class: "nbc-column" }, ...here));
      if (at < Math.max(...rank)) parts.push(make("div", { class: "nbc-arrow", title: gives.join(", ") }, make("span", {}, gives.join(", "))));
    }
    row.replaceChildren(...parts);
    rove(chosen ?? 0);
  }
  function show(place) {
    const it = boxes[place];
    if (it) row.scrollLeft += it.getBoundingClientRect().left - row.getBoundingClientRect().left - (row.clientWidth - it.offsetWidth) / 2;
  }
  function drawStep(step, place) {
    const [, mark, bar, line, more] = boxes[place].children;
    boxes[place].dataset.status = cells[place].firstChild.dataset.s = step.state;
    boxes[place].classList.toggle("nbc-idle", step.idle);
    boxes[place].classList.toggle("nbc-now", step.now);
    boxes[place].setAttribute("aria-label", `${step.name}: ${step.words}. ${step.line}${step.more ? `, ${step.more}` : ""}`);
    put(mark, step.mark);
    drawBar(bar, step.counts);
    put(line, step.line);
    put(more, step.more);
  }
  function draw(steps, step) {
    const now = JSON.stringify(steps.map((each) => [each.name, each.targets, each.gives]));
    if (now !== shape) {
      shape = now;
      build(steps);
      active = -1;
    }
    steps.forEach(drawStep);
    if (step !== told) told = chosen = step;
    mark();
    const name = chosen === null ? "" : steps[chosen]?.name ?? "";
    if (only.dataset.told !== name) {
      only.dataset.told = name;
      only.replaceChildren(...(name ? [`All tabs show ${name} alone. `, make("button", { type: "button", onclick: () => choose(chosen) }, "Show all steps")] : []));
    }
    const at = steps.findIndex((each) => each.now);
    if (at >= 0 && at !== active && Date.now() - touched > HANDS_OFF_MS) show(active = at);
  }
  return { node, draw };
}
