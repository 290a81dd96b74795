// What runs now: the kernel says since when, and the page counts on where that is long; what was quick has ended since.
function took(seconds) {
  if (seconds > 0 && seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${(Math.floor(seconds * 10) / 10).toString()} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600), two = (number) => String(number).padStart(2, "0");
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

const COUNTED = 1000; // milliseconds from which on it is counted
function ticking(pane, isOld) {
  let skew = 0, known = 0;
  function tick() {
    if (isOld() || pane.hidden) return;
    for (const cell of pane.querySelectorAll("[data-since]")) {
      const told = known - Number(cell.dataset.since);
      const seconds = Math.max(0, told < COUNTED ? told : Date.now() - skew - Number(cell.dataset.since)) / 1000;
      const usual = Number(cell.dataset.usual), most = Number(cell.dataset.most);
      const late = most > 0 && seconds > most;
      put(cell.querySelector(".nbc-took"), late ? `${took(seconds)} · usually ${took(usual)}` : took(seconds));
      cell.classList.toggle("nbc-late", late);
      const meter = cell.querySelector(".nbc-meter i");
      if (meter) meter.style.width = `${most > 0 ? Math.min(100, Math.round(100 * seconds / most)) : 0}%`;
    }
  }
  const every = setInterval(tick, 250);
  return {
    // A value has come that was made at this time of the kernel's.
    at(time) {
      if (time !== known) [skew, known] = [Date.now() - time, time];
      tick();
    },
    stop() { clearInterval(every); },
  };
}

// Where a page may not write to the clipboard, the line is marked instead, for the keyboard to copy it.
function copy(button) {
  const mark = () => { getSelection().selectAllChildren(button.previousElementSibling); put(button, "Marked: copy it"); };
  if (!navigator.clipboard) { mark(); return; }
  navigator.clipboard.writeText(button.dataset.copy).then(() => put(button, "Copied"), mark);
}
