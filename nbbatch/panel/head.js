// The head of a panel: how the run stands, its bar, its figures, its buttons and what to do next. Figures come as facts.
const HELD = "A cell keeps the kernel busy: the button is heard when that cell is over. Interrupting the cell ends its waiting, not the run.";
const DOING = "The kernel has heard it; it is done once the store, or the process that holds it, answers.";
const QUESTION_MS = 5000;
const UNHEARD_MS = 1500;

// A moment in the reader's zone, with its day where that is another.
function moment(time, seconds = false) {
  const at = new Date(time);
  const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds ? { second: "2-digit" } : {}) };
  const far = Math.abs(at - Date.now()) > 20 * 3600e3;
  return at.toLocaleString([], far ? { weekday: "short", ...parts } : parts);
}

const timed = (words, at) => (at ? words.replace("{at}", moment(at)) : words);

function spark(values) {
  const most = Math.max(...values, 1e-9);
  const points = values.map((each, place) => `${(100 * place) / (values.length - 1)},${17 - (15 * each) / most}`).join(" ");
  return `<svg viewBox="0 0 100 18" preserveAspectRatio="none" aria-hidden="true"><polyline points="${points}"/></svg>`;
}

// Parts of a bar, one per state that has any chunk; they are kept, so that they grow instead of jumping.
function drawBar(bar, counts) {
  const there = new Map([...bar.children].map((each) => [each.dataset.s, each]));
  counts.forEach(([state, count], place) => {
    const part = there.get(state) ?? make("i", { "data-s": state });
    part.style.flexGrow = count;
    there.delete(state);
    if (bar.children[place] !== part) bar.insertBefore(part, bar.children[place] ?? null);
  });
  for (const each of there.values()) each.remove();
}

// The figures: those that have more behind them are buttons.
function tiles(open) {
  const node = make("div", { class: "nbc-tiles", role: "group", "aria-label": "Figures" });
  let shape = "";
  function build(facts) {
    node.replaceChildren(...facts.map((fact) => {
      const parts = [make("small", {}), make("strong", { dir: "auto" }), make("em", {}), make("span", { class: "nbc-spark" })];
      const opens = open.knows(fact.opens);
      const told = { class: `nbc-tile${fact.bad ? " nbc-bad" : ""}`, "data-fact": fact.key };
      return opens ? make("button", { ...told, type: "button", onclick: () => open(fact.opens) }, ...parts) : make("div", told, ...parts);
    }));
  }
  function draw(facts) {
    const now = JSON.stringify(facts.map((each) => [each.key, each.label, each.bad]));
    if (now !== shape) {
      const focus = document.activeElement?.dataset.fact;
      shape = now;
      build(facts);
      if (focus) node.querySelector(`button[data-fact="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    }
    facts.forEach((fact, place) => {
      const [label, value, note, line] = node.children[place].children;
      put(label, fact.label);
      put(value, timed(fact.value, fact.at));
      put(note, timed(fact.note, fact.at));
      const drawn = fact.line ? spark(fact.line) : "";
      if (line.nbcDrawn !== drawn) line.innerHTML = line.nbcDrawn = drawn;
    });
  }
  return { node, draw };
}

// Buttons that ask the kernel. What cannot be pressed says why; what cannot be taken back asks once more.
function orders(send, heard, note, open) {
  let asked = false;
  let answered = 0;
  let held = "";
  const button = (does, label) => make("button", { type: "button", "data-do": does, onclick: (event) => press(does, event.detail > 1) }, label);
  const nodes = { look: button("look", ""), retry: button("retry", "Retry failed"), pause: button("pause", "Pause"), cancel: button("cancel", "Cancel") };
  const node = make("div", { class: "nbc-buttons", role: "group", "aria-label": "What to do" }, nodes.pause, nodes.cancel, nodes.retry, nodes.look);
  // What a press waits for is said: a cell that blocks keeps the kernel from hearing it; what was heard is not always done at once.
  function expect() {
    const before = answered, known = heard();
    setTimeout(() => { if (answered === before) put(note, held = heard() === known ? HELD : DOING); }, UNHEARD_MS);
  }
  function press(does, twice) {
    if (does === "look") return open("failures");
    if (nodes[does].getAttribute("aria-disabled") === "true" || (twice && does === "cancel")) return;
    if (does === "cancel" && !asked) {
      asked = true;
      put(nodes.cancel, "Cancel for good?");
      setTimeout(() => { asked = false; put(nodes.cancel, "Cancel"); }, QUESTION_MS);
      return;
    }
    send({ do: does === "pause" ? nodes.pause.dataset.does : does });
    expect();
    if (does === "cancel") put(nodes.cancel, "Cancelling …");
  }
  function draw(shown) {
    if (answered !== shown.answered) held = "";
    answered = shown.answered;
    put(note, held || shown.note);
    nodes.pause.dataset.does = shown.paused ? "resume" : "pause";
    put(nodes.pause, shown.paused ? "Resume" : "Pause");
    const failed = shown.failed.toLocaleString("en");
    put(nodes.retry, shown.failed ? `Retry ${failed} failed` : shown.ended ? "Take it up again" : "Retry failed");
    put(nodes.look, `Look at ${failed} failure${shown.failed === 1 ? "" : "s"}`);
    nodes.look.hidden = !(shown.ended && shown.failed);
    nodes.pause.hidden = nodes.cancel.hidden = shown.ended;
    nodes.retry.hidden = shown.ended && Boolean(shown.cannot.retry);
    nodes.look.classList.toggle("nbc-first", true);
    nodes.retry.classList.toggle("nbc-first", shown.failed > 0 && !shown.ended);
    for (const [does, why] of Object.entries(shown.cannot)) {
      nodes[does].title = why || (does === "retry" ? shown.plan : "");
      nodes[does].setAttribute("aria-disabled", String(Boolean(why)));
    }
    if (shown.cannot.cancel) { asked = false; put(nodes.cancel, "Cancel"); }
  }
  return { node, draw };
}

function head(send, heard, id, open) {
  const status = make("span", { class: "nbc-status", role: "status" });
  const name = make("span", { class: "nbc-name", dir: "auto" });
  const which = make("span", { class: "nbc-which" });
  const title = make("div", { class: "nbc-title", role: "heading", "aria-level": 3 }, name, which);
  const bar = make("div", { class: "nbc-bar", role: "progressbar", "aria-label": "Chunks done", "aria-valuemin": 0, "aria-valuemax": 100 });
  const facts = make("div", { class: "nbc-facts" });
  const note = make("div", { class: "nbc-note", "aria-live": "polite", id: `${id}-note` });
  const next = make("p", { class: "nbc-next" });
  const figures = tiles(open);
  const row = orders(send, heard, note, open);
  function draw(shown) {
    put(status, shown.paused && shown.since ? shown.word.replace(/since .*?(?=,|$)/, `since ${moment(shown.since)}`) : shown.word);
    status.dataset.status = bar.dataset.status = shown.status;
    status.classList.toggle("nbc-bad", shown.failed > 0);
    put(name, shown.name);
    put(which, shown.which);
    title.title = `${shown.name} ${shown.which}`;
    put(facts, shown.facts);
    drawBar(bar, shown.bar);
    bar.classList.toggle("nbc-open", shown.open);
    bar.setAttribute("aria-valuenow", Math.round(100 * shown.share));
    bar.setAttribute("aria-valuetext", shown.barWords);
    bar.title = shown.barWords;
    figures.draw(shown.tiles);
    row.draw(shown);
    next.hidden = !shown.next.length;
    const told = JSON.stringify(shown.next);
    if (next.dataset.told !== told) {
      next.dataset.told = told;
      next.replaceChildren("Next: ", ...shown.next.flatMap(([code, what], place) => [place ? " · " : "", make("code", {}, code), ` ${what}`]));
    }
  }
  const line = make("div", { class: "nbc-line" }, status, title, row.node);
  return { node: make("header", {}, line, bar, facts, note, figures.node, next), draw, row: row.node };
}
