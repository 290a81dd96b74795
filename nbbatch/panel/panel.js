// The panel's page side: builds its parts once, then puts in what changed. All markup comes escaped from the kernel.
const TABS = [["now", "Now"], ["failures", "Failures"], ["chunks", "Chunks"], ["timeline", "Timeline"], ["log", "Log"], ["history", "History"]];
const LOST = {
  gone: "The kernel that ran this is gone. What was done is in the store: run this cell again to go on.",
  silent: "No news: the kernel is busy or gone, or what it reads does not answer. The figures are as of then.",
  unkept: "The run has ended, and this page cannot put its end into the notebook: run this cell again to keep it there.",
};
const SILENT_MS = 7000;
const SMALLEST = 1; // of a picture's own size: below, its words would be smaller than the page's, and it is scrolled
let panels = 0;

// What finds a button or a summary again in markup that was put in anew.
function trace(node) {
  const { chunk, group, instance, do: does } = node.dataset;
  const key = node.closest("details[data-key]")?.dataset.key;
  if (group) return `[data-group="${CSS.escape(group)}"][data-do="${CSS.escape(does)}"]`;
  if (chunk) return `[data-chunk="${CSS.escape(chunk)}"]`;
  if (instance) return `[data-instance="${CSS.escape(instance)}"]`;
  return key ? `details[data-key="${CSS.escape(key)}"] > summary` : null;
}

// A second press is asked for before what cannot be taken back; a double click is no answer.
function ask(button) {
  button.dataset.asked = "yes";
  put(button, `${button.textContent} for good?`);
}

// Markup is put in only where it changed; what was opened stays open, what had the focus or was asked keeps it.
function fill(node, markup) {
  if (node.nbcMarkup === markup || markup === undefined) return;
  const opened = new Set([...node.querySelectorAll("details[open][data-key]")].map((each) => each.dataset.key));
  const focus = node.contains(document.activeElement) ? trace(document.activeElement) : null;
  const asked = [...node.querySelectorAll("[data-asked]")].map(trace);
  node.nbcMarkup = markup;
  node.innerHTML = markup;
  for (const each of node.querySelectorAll("details[data-key]")) if (opened.has(each.dataset.key)) each.open = true;
  for (const each of asked) node.querySelectorAll(each).forEach(ask);
  for (const each of node.querySelectorAll("svg.nbp")) each.style.minWidth = `${SMALLEST * each.viewBox.baseVal.width}px`;
  for (const each of node.querySelectorAll("text[data-at]")) put(each, moment(Number(each.dataset.at), each.textContent.length > 5) + (each.textContent.match(/\.\d+$/)?.[0] ?? ""));
  if (focus) node.querySelector(focus)?.focus({ preventScroll: true });
}

function tabs(send, id) {
  const chosen = { name: "now", told: null };
  const panes = {};
  const buttons = {};
  const list = make("div", { role: "tablist", class: "nbc-tabs", "aria-label": "Views of the run" });
  for (const [name, label] of TABS) {
    buttons[name] = make("button", { type: "button", role: "tab", id: `${id}-${name}`, "aria-controls": `${id}-pane-${name}`,
      onclick: () => choose(name), onkeydown: (event) => step(event, name) }, label);
    panes[name] = make("div", { role: "tabpanel", id: `${id}-pane-${name}`, "aria-labelledby": `${id}-${name}`, class: "nbc-pane", tabindex: 0 });
    list.append(buttons[name]);
  }
  function step(event, name) {
    const names = TABS.map(([each]) => each);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const next = names[(names.indexOf(name) + by + names.length) % names.length];
    choose(next);
    buttons[next].focus();
  }
  function choose(name) {
    chosen.name = name;
    show();
    send({ do: "tab", tab: name });
  }
  // Views of one panel show one tab: the kernel has one.
  function follow(name) {
    if (name === chosen.told || !(name in panes)) return;
    chosen.told = chosen.name = name;
    show();
  }
  function show() {
    for (const [name] of TABS) {
      buttons[name].setAttribute("aria-selected", String(name === chosen.name));
      buttons[name].tabIndex = name === chosen.name ? 0 : -1;
      panes[name].hidden = name !== chosen.name;
    }
  }
  show();
  return { list, panes, buttons, chosen, choose, follow };
}

function chunkTools(send, pane) {
  const step = make("select", { "aria-label": "Step" });
  const state = make("select", { "aria-label": "State" });
  const order = make("select", { "aria-label": "Order" }, ...[["id", "in order"], ["slowest", "slowest first"], ["newest", "newest first"]].map(([value, label]) => make("option", { value }, label)));
  const body = make("div", { class: "nbc-body" });
  const before = [];
  let here = [0, 0]; // id of the chunk before the first, and how many are before it
  const look = (to, more = {}) => { here = to; send({ do: "chunks", step: step.value, status: state.value, order: order.value, after: to[0], offset: to[1], ...more }); };
  const back = () => look(before.pop() ?? [0, 0]);
  function on() {
    const to = body.querySelector("[data-next]")?.dataset.next?.split(",").map((each) => (each === "" ? null : Number(each)));
    if (!to || to[0] === here[0] && to[1] === here[1]) return false;
    before.push(here);
    look(to);
    return true;
  }
  const anew = () => { before.length = 0; look([0, 0]); };
  for (const each of [step, state, order]) each.addEventListener("change", anew);
  const jump = make("input", { type: "number", min: 1, class: "nbc-jump", "aria-label": "Jump to chunk", placeholder: "chunk …", onchange: () => {
    if (!jump.value) return;
    before.length = 0;
    order.value = "id";
    look([Number(jump.value) - 1, null], { jump: Number(jump.value) });
  } });
  pane.append(make("div", { class: "nbc-tools" }, step, state, order, jump, make("button", { type: "button", onclick: back }, "‹ Previous"), make("button", { type: "button", onclick: on }, "Next ›")), body);
  // At the end of what is drawn the next rows are asked for, and shown from their beginning.
  let scrolls = false;
  pane.addEventListener("scroll", () => {
    if (pane.scrollTop + pane.clientHeight < pane.scrollHeight - 4 || pane.scrollHeight <= pane.clientHeight + 8) return;
    scrolls = on();
  });
  // Options as [value, label]; the first is for all of them.
  function offer(select, options) {
    if (select.dataset.told === JSON.stringify(options)) return;
    select.dataset.told = JSON.stringify(options);
    select.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
  }
  function names(steps, states) {
    offer(step, [["", "all steps"], ...steps.map((name, place) => [place, name])]);
    offer(state, [["", "all states"], ...states]);
  }
  // The filter is the kernel's: a view that comes later, or after a reload, says what its rows are.
  let told = "";
  function follow(filter) {
    if (told === JSON.stringify(filter)) return;
    told = JSON.stringify(filter);
    [step.value, state.value, here[0], order.value] = filter;
    if (scrolls) pane.scrollTop = 1;
    scrolls = false;
  }
  return { body, names, follow };
}

function historyTools(send, pane, share) {
  const range = make("input", { type: "range", min: 0, max: 1000, value: Math.round(1000 * share), "aria-label": "Moment of the run" });
  const words = make("output", { class: "nbc-moment" });
  const body = make("div", { class: "nbc-body" });
  let due = null;
  range.addEventListener("input", () => {
    clearTimeout(due);
    due = setTimeout(() => send({ do: "at", share: range.value / 1000 }), 120);
  });
  pane.append(make("div", { class: "nbc-tools" }, range, words), body);
  function say(moment, share) {
    put(words, moment);
    if (document.activeElement !== range) range.value = Math.round(1000 * share);
    range.setAttribute("aria-valuetext", moment);
  }
  return { body, say };
}

function render({ model, el }) {
  const id = `nbc-${Date.now().toString(36)}-${panels++}`;
  const send = (message) => model.send(message);
  const tab = tabs(send, id);
  const open = Object.assign((name) => { tab.choose(name); tab.buttons[name].focus(); }, { knows: (name) => name in tab.panes });
  const top = head(send, () => model.get("heard"), id, open);
  const chain = chainView(send);
  const chunks = chunkTools(send, tab.panes.chunks);
  const history = historyTools(send, tab.panes.history, model.get("shown").share ?? 1);
  const inspector = make("section", { class: "nbc-inspector", "aria-label": "Inspector", tabindex: -1, hidden: "" });
  const gone = make("p", { class: "nbc-gone", role: "alert", hidden: "" });
  const root = make("section", { class: "nbc", "aria-label": "Run" }, gone, top.node, chain.node, tab.list, ...Object.values(tab.panes), inspector);
  el.append(root);
  const bodies = { now: tab.panes.now, timeline: tab.panes.timeline, failures: tab.panes.failures, log: tab.panes.log, chunks: chunks.body, history: history.body };

  root.addEventListener("click", (event) => {
    const copied = event.target.closest("[data-copy]");
    if (copied) copy(copied);
    const button = event.target.closest("[data-chunk], [data-instance], [data-group]");
    const { chunk, instance, group } = button?.dataset ?? {};
    if ((chunk || instance) && !inspector.contains(button)) opener = trace(button);
    if (chunk) send({ do: "inspect", chunk: Number(chunk) });
    else if (instance) send({ do: "instance", instance: Number(instance) });
    else if (group) act(button, event.detail > 1);
  });
  function act(button, twice) {
    const { ask: asks, asked, group, do: does } = button.dataset;
    if (button.getAttribute("aria-disabled") === "true" || (asks && twice)) return;
    if (asks && !asked) {
      ask(button);
      return;
    }
    send({ do: does, group });
    button.setAttribute("aria-disabled", "true");
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !inspector.hidden) close();
  });
  function close() { send({ do: "close" }); }

  let opener = null;
  function inspect(markup) {
    const within = inspector.contains(document.activeElement);
    const opening = Boolean(markup) && (inspector.hidden || (within && inspector.nbcMarkup !== markup));
    if (!markup) {
      inspector.hidden = true;
      inspector.nbcMarkup = "";
      if (within) ((opener && tab.panes[tab.chosen.name].querySelector(opener)) ?? tab.buttons[tab.chosen.name]).focus();
      return;
    }
    if (inspector.nbcMarkup !== markup) {
      inspector.nbcMarkup = markup;
      inspector.innerHTML = markup;
      inspector.prepend(make("button", { type: "button", class: "nbc-close", onclick: close }, "Close"));
    }
    inspector.hidden = false;
    if (opening) {
      inspector.focus({ preventScroll: true });
      inspector.scrollIntoView({ block: "nearest" });
    }
  }

  let frame = 0;
  function draw() {
    frame = 0;
    const shown = model.get("shown");
    if (!shown.head) return;
    top.draw(shown.head);
    chain.draw(shown.chain, shown.step);
    tab.follow(shown.tab);
    chunks.names(shown.names, shown.states);
    chunks.follow(shown.filter);
    put(tab.buttons.failures, shown.head.failed ? `Failures (${shown.head.failed.toLocaleString("en")})` : "Failures");
    if (shown.tab in bodies && !held.holds(bodies[shown.tab])) fill(bodies[shown.tab], shown.body);
    if (shown.tab === "history") history.say(shown.moment || "", shown.share);
    inspect(model.get("inspector"));
    doubt();
    ticks.at(shown.at);
  }
  const ticks = ticking(tab.panes.now, () => root.classList.contains("nbc-old"));
  const soon = () => { frame = frame || requestAnimationFrame(draw); };
  let last = Date.now();
  let lost = "";
  const heard = () => { last = Date.now(); soon(); };
  // Figures that are not of now are told so, with when they were.
  const doubt = () => {
    const silent = model.get("shown").head?.beat && Date.now() - last > SILENT_MS;
    const { old, at } = model.get("shown");
    const why = LOST[lost || (silent ? "silent" : "")] || old;
    put(gone, why ? `${why} Last heard at ${moment(old && !lost ? at : last, true)}.` : "");
    gone.hidden = !why;
    top.row.hidden = lost === "gone";
    root.classList.toggle("nbc-old", lost === "gone" || Boolean(silent || old));
  };
  const tell = (what) => { lost = what; doubt(); };
  const watch = setInterval(doubt, 1000);
  const held = hand(root, soon);
  model.on("change:shown", heard);
  model.on("change:inspector", heard);
  const free = [ownKeys(root), keepRecord({ model, el }, tell), ticks.stop, held.free];
  draw();
  send({ do: "hello", tab: tab.chosen.name });
  return () => {
    model.off("change:shown", heard);
    model.off("change:inspector", heard);
    for (const each of free) each();
    clearInterval(watch);
    cancelAnimationFrame(frame);
    send({ do: "bye" });
  };
}

export default { render };
