// The runs of a batch: the table comes as markup; a click on a row opens the run below it, others choose which runs are shown.
function render({ model, el }) {
  const body = make("div", {});
  const gone = make("p", { class: "nbc-gone", role: "alert", hidden: "" }, "The kernel that had this store open is gone. Run this cell again to go on.");
  const root = make("section", { class: "nbc nbc-listing", "aria-label": "Overview" }, gone, body);
  el.append(root);
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) {
      const row = event.target.closest("tbody tr");
      if (row && getSelection().isCollapsed) row.querySelector("[data-instance]").click();
      return;
    }
    const { instance, filter, offset } = button.dataset;
    if (button.getAttribute("aria-disabled") === "true") return;
    if (instance) model.send({ do: "open", instance: Number(instance) });
    else if (filter !== undefined) model.send({ do: "choose", group: filter });
    else if (offset) model.send({ do: "choose", offset: Number(offset) });
  });
  const trace = (node) => ["instance", "filter", "turn"].filter((name) => node.dataset[name] !== undefined).map((name) => `[data-${name}="${CSS.escape(node.dataset[name])}"]`)[0];
  function draw() {
    const { page, opened } = model.get("shown");
    if (body.nbcMarkup !== page && !held.holds(body)) {
      const focus = body.contains(document.activeElement) ? trace(document.activeElement) : null;
      body.nbcMarkup = page;
      body.innerHTML = page;
      if (focus) body.querySelector(focus)?.focus({ preventScroll: true });
    }
    for (const button of body.querySelectorAll("[data-instance]")) {
      const is = Number(button.dataset.instance) === opened;
      button.setAttribute("aria-expanded", String(is));
      button.closest("tr").classList.toggle("nbc-chosen", is);
    }
  }
  const tell = (what) => {
    gone.hidden = what !== "gone";
    root.classList.toggle("nbc-old", what === "gone");
  };
  const held = hand(root, () => requestAnimationFrame(draw));
  model.on("change:shown", draw);
  const free = [ownKeys(root), keepRecord({ model, el }, tell), held.free];
  draw();
  return () => {
    model.off("change:shown", draw);
    for (const each of free) each();
  };
}

export default { render };
