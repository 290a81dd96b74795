// The instances of a batch: the table comes as markup, a click on a row's button asks the kernel to open it below.
function render({ model, el }) {
  const body = document.createElement("div");
  const gone = document.createElement("p");
  const root = document.createElement("section");
  gone.className = "nbc-gone";
  gone.setAttribute("role", "alert");
  gone.textContent = "The kernel that had this store open is gone. Run the cell again to go on.";
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
    gone.hidden = true;
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
  const dead = () => { gone.hidden = false; };
  model.on("change:shown", draw);
  model.on("comm_live_update", dead);
  draw();
  return () => {
    model.off("change:shown", draw);
    model.off("comm_live_update", dead);
  };
}

export default { render };
