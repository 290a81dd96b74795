// The instances of a batch: the table comes as markup, a click on a row's button asks the kernel to open it below.
function render({ model, el }) {
  const body = document.createElement("div");
  const gone = document.createElement("p");
  const root = document.createElement("section");
  gone.className = "nbc-gone";
  gone.setAttribute("role", "alert");
  gone.textContent = "The kernel that had this store open is gone. Run this cell again to go on.";
  gone.hidden = true;
  root.className = "nbc nbc-listing";
  root.setAttribute("aria-label", "Instances");
  root.append(gone, body);
  el.append(root);
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-instance]");
    if (button) model.send({ do: "open", instance: Number(button.dataset.instance) });
  });
  function draw() {
    const { page, opened } = model.get("shown");
    if (body.nbcMarkup !== page) {
      const focus = body.contains(document.activeElement) ? document.activeElement.dataset.instance : null;
      body.nbcMarkup = page;
      body.innerHTML = page;
      if (focus) body.querySelector(`[data-instance="${CSS.escape(focus)}"]`)?.focus();
    }
    for (const button of body.querySelectorAll("[data-instance]")) {
      button.setAttribute("aria-expanded", String(Number(button.dataset.instance) === opened));
    }
  }
  const tell = (what) => { gone.hidden = what !== "gone"; };
  model.on("change:shown", draw);
  const free = [ownKeys(root), keepRecord({ model, el }, tell)];
  draw();
  return () => {
    model.off("change:shown", draw);
    for (const each of free) each();
  };
}

export default { render };
