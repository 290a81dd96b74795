// What the panel and the overview have to do with the notebook they stand in: keys, and what a save writes. Used by both.
const VIEW = "application/vnd.jupyter.widget-view+json";
const NOTEBOOK_KEYS = /^[acvxyz]$|^Enter$|^Arrow/i; // with Ctrl or ⌘ too they would act on cells
const KEPT = Symbol.for("nbbatch.kept");
const LOOK_AGAIN = 1000;
const OVER = new Set(["dead", "terminating", "restarting", "autorestarting"]);

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Keys pressed in here are no commands of the notebook; those with Ctrl or ⌘, such as that for saving, still are.
function ownKeys(root) {
  root.tabIndex = -1;
  const isCommand = (event) => (event.ctrlKey || event.metaKey) && !NOTEBOOK_KEYS.test(event.key);
  const suppress = (event) => {
    if (!root.contains(event.target)) return;
    for (const node of [root, event.target]) node.toggleAttribute("data-lm-suppress-shortcuts", !isCommand(event)); // of both: some commands are of what has the focus
  };
  const stop = (event) => { if (!isCommand(event)) event.stopPropagation(); };
  const hold = () => { if (!root.contains(document.activeElement)) root.focus({ preventScroll: true }); };
  window.addEventListener("keydown", suppress, true); // before the page's own listeners
  root.addEventListener("keydown", stop);
  root.addEventListener("click", hold);
  return () => window.removeEventListener("keydown", suppress, true);
}

// What is pressed or marked is not taken away under the hand; `again` is called once it is let go.
function hand(root, again) {
  let pressed = null;
  const grasp = (event) => { pressed = event.target; };
  const release = () => { pressed = null; again(); };
  const ends = [["pointerup", release], ["pointercancel", release], ["selectionchange", again]];
  root.addEventListener("pointerdown", grasp);
  for (const [name, call] of ends) document.addEventListener(name, call);
  function holds(node) {
    const marked = getSelection();
    return node.contains(pressed) || (!marked.isCollapsed && node.contains(marked.anchorNode));
  }
  return { holds, free: () => { for (const [name, call] of ends) document.removeEventListener(name, call); } };
}

// The cells whose outputs show a widget, each with the place of that output. JupyterLab and Notebook 7 let a widget see its notebook.
function cellsOf(manager, id) {
  const cells = manager?.context?.model?.cells;
  const found = [];
  for (let at = 0; at < (cells?.length ?? 0); at++) {
    const outputs = cells.get(at).outputs;
    for (let place = 0; place < (outputs?.length ?? 0); place++) {
      if (outputs.get(place).data?.[VIEW]?.model_id === id) found.push([cells.get(at), place]);
    }
  }
  return found;
}

// A record as an output; `of` a widget that stands beside it.
function plain(record, of) {
  const html = of ? `<div data-nbbatch-of="${of}">${record.html}</div>` : record.html;
  return { output_type: "display_data", metadata: of ? { nbbatch: { of } } : {}, data: { "text/html": html, "text/plain": record.text } };
}

// What a saved notebook holds of a widget: the plain page, and the widget beside it only where it can come back.
function saveAs(cell, id, said) {
  const shared = cell.sharedModel;
  if (!shared[KEPT]) {
    const kept = shared[KEPT] = new Map();
    const whole = shared.toJSON.bind(shared);
    const written = (each) => kept.get(each.data?.[VIEW]?.model_id)?.(each) ?? [each];
    shared.toJSON = () => {
      const it = whole();
      const outputs = it.outputs?.filter((each) => !kept.has(each.metadata?.nbbatch?.of));
      return outputs ? { ...it, outputs: outputs.flatMap(written) } : it;
    };
  }
  shared[KEPT].set(id, said);
}

// In place of a widget its plain page, for good: in a page that was loaded again, which the kernel's own replacement does not reach.
function settle(found, id, record) {
  for (const [cell, place] of found) {
    const outputs = cell.outputs.toJSON();
    const left = outputs.filter((each) => each.metadata?.nbbatch?.of !== id);
    if (left.length === outputs.length) cell.outputs.set(place, plain(record));
    else cell.outputs.fromJSON(left.map((each) => (each.data?.[VIEW]?.model_id === id ? plain(record) : each)));
  }
}

// Another make of front end: what could not be done is told, not thrown.
function attempt(act) {
  try {
    return act();
  } catch (error) {
    console.warn("nbbatch: this page does not let a panel see its notebook", error);
    return undefined;
  }
}

// Keeps the record of what is shown: in what a save writes, and at the end in its place.
// `tell(what)` hears "gone" when the kernel is, "unkept" where this page cannot hold the end, and "" while all is well.
function keepRecord({ model, el }, tell) {
  const id = model.get("place");
  const session = model.widget_manager?.context?.sessionContext;
  let gone = false;
  let looks = 0;
  const written = (output) => {
    const record = model.get("record");
    if (!record?.html) return [output];
    const view = { ...output, data: { [VIEW]: output.data[VIEW] } };
    return gone || record.over ? [plain(record)] : [plain(record, id), view];
  };
  const end = (found, record) => {
    if (looks++ === 0) return; // the kernel puts the page there itself, unless this page has been loaded again
    attempt(() => settle(found, id, record));
    const saved = document.body.dataset.vscodeThemeKind || globalThis.google?.colab || session;
    if (!found.length && saved) tell("unkept");
  };
  const look = () => {
    const record = model.get("record");
    const found = attempt(() => cellsOf(model.widget_manager, id)) ?? [];
    attempt(() => found.forEach(([cell]) => saveAs(cell, id, written)));
    if (session && !session.session?.kernel) die();
    if (record?.final && !gone) end(found, record);
  };
  const die = () => { gone = true; tell("gone"); };
  const heard = () => { gone = false; tell(""); };
  const status = (_, now) => { if (OVER.has(now)) die(); };
  session?.statusChanged?.connect(status);
  model.on("comm_live_update", die);
  model.on("change:shown", heard);
  const timer = setInterval(look, LOOK_AGAIN);
  look();
  return () => {
    clearInterval(timer);
    session?.statusChanged?.disconnect(status);
    model.off("comm_live_update", die);
    model.off("change:shown", heard);
  };
}
