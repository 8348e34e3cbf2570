// One text at a time: a key or a button answers it, and the next one comes once the answer is on disk.

const OFTEN = 2000;    // milliseconds between two looks at what the background does
const SURPRISED = 800; // milliseconds without answers after a text was changed that nobody here answered

const $ = id => document.getElementById(id);
const {classes, keys} = JSON.parse($("spec").textContent);
const percent = part => `${(100 * part).toFixed(1)} %`;

function element(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...properties});
}

/** Sets a text where it is another one: a region that is read aloud is read once. */
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

let shown = null;   // the place of the text that is on the page
let busy = true;    // an answer is on its way, or the first text
let notBefore = 0;  // when answers are taken again

function complain(text) {
  $("wrong").textContent = text;
  $("wrong").hidden = !text;
}

/** What the app answers; an error has what it says is wrong. */
async function ask(path, content) {
  const options = content === undefined ? {} :
    {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(content)};
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The labelling process can't be reached. Start it again: every answer that was followed by another text is kept.");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(told.error ?? `The app answered ${answer.status}.`), {told});
  return told;
}

/** Shows a text; `own` says that it follows from what was done here. */
function showText(status, own) {
  if (status.text === shown) return;
  const first = shown === null;
  shown = status.text;
  $("asked").textContent = shown === null ? "All texts are answered." : status.content;
  $("asked").scrollTop = 0;
  $("asked").classList.toggle("changed", !own && !first);
  if (!own && !first) {
    notBefore = Date.now() + SURPRISED;
    complain("The text was answered in another tab or window; this is the next one.");
  }
}

function showWhere(status) {
  const counts = classes.map(name => `${status.counts[name]} ${name}`).join(", ");
  say("where", `${counts}, ${status.skipped} skipped; ${status.left} texts left`);
  $("last").replaceChildren(...status.last.map(([text, label]) => {
    const item = element("li", "");
    item.append(element("b", label || "skipped"), element("span", text, {dir: "auto"}));
    return item;
  }));
  $("random").checked = status.random_only;
  $("undo").disabled = !status.answered;
}

function tile(value, name, more) {
  const box = element("div", "", {className: "tile"});
  box.append(element("b", value), name, element("br", ""), element("span", more, {className: "soft"}));
  return box;
}

function showEvidence({evidence, advice, ready, failure, seconds}) {
  $("preparing").hidden = ready === 1 || Boolean(failure);
  $("ready").value = ready;
  $("failure").textContent = `The classifier can't be fitted: ${failure}. Labels are kept all the same.`;
  $("failure").hidden = !failure;
  const tiles = [];
  if (evidence?.accuracy) {
    const {value, low, high} = evidence.accuracy;
    tiles.push(tile(percent(value), "accuracy", `${percent(low)} to ${percent(high)}`));
    tiles.push(tile(percent(evidence.majority), "always the most frequent class", `on the same ${evidence.random} random texts`));
    for (const {name, right, number} of evidence.recalls) tiles.push(tile(`${right} of ${number}`, `random texts of ${name}`, "are found"));
  }
  if (evidence) tiles.push(tile(`${evidence.trained}`, "labels to learn from", `last fit ${seconds.toFixed(1)} s`));
  $("tiles").replaceChildren(...tiles);
  say("advice", advice || (ready === 1 && !failure ? "The classifier begins with labels of two classes." : ""));
}

let stage = ""; // of training, as it is told

function showTraining(training) {
  $("train").disabled = Boolean(training?.running);
  $("lines").hidden = !training;
  if (!training) return;
  const text = training.lines.join("\n");
  if ($("lines").textContent !== text) {
    $("lines").textContent = text;
    $("lines").scrollTop = $("lines").scrollHeight;
  }
  const before = stage;
  stage = training.running ? "running" : training.done ? "done" : "failed";
  if (stage === before) return;
  if (stage === "running") $("done").textContent = "Training; you can go on labelling.";
  else if (stage === "failed") $("done").textContent = "Training failed; the last lines say why.";
  else $("done").replaceChildren("Done: ", element("a", "try it", {href: "/try"}), ", or ", element("a", "look at how good it is", {href: "/look"}), ".");
}

function show(status, own) {
  showText(status, own);
  showWhere(status);
  showEvidence(status);
  if (status.training || !$("lines").hidden) showTraining(status.training);
}

/** Sends something that changes what is shown; nothing else is taken until the answer is there. */
async function change(path, content) {
  if (busy) return;
  busy = true;
  $("choices").classList.add("busy");
  try {
    show(await ask(path, content), true);
    complain("");
  } catch (error) {
    if (error.told?.content !== undefined) show(error.told, false);
    complain(error.message);
  }
  busy = false;
  $("choices").classList.remove("busy");
}

function answer(label) {
  if (shown === null || Date.now() < notBefore) return Promise.resolve();
  return change("/label/answer", {text: shown, label});
}

const undo = () => change("/label/undo", {});

document.addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const focused = event.target.closest("button, a, input, summary");
  const label = keys.indexOf(event.key.toLowerCase());
  if (event.key === " " && focused) return; // it presses what is focused
  if (event.key === " ") answer(null);
  else if (event.key === "Backspace") undo();
  else if (event.key.length === 1 && label >= 0) answer(label);
  else return;
  event.preventDefault();
});

/** A button that gives the keys back to the text when it was clicked with a pointer. */
function onClick(button, action) {
  button.addEventListener("click", event => {
    if (event.detail) button.blur(); // by the keyboard it is 0, and whoever tabs stays where they are
    action();
  });
}

for (const button of document.querySelectorAll("[data-label]")) onClick(button, () => answer(Number(button.dataset.label)));
onClick($("skip"), () => answer(null));
onClick($("undo"), undo);
$("random").addEventListener("change", () => change("/label/random", {wanted: $("random").checked}));
onClick($("csv"), async () => {
  try {
    const {written} = await ask("/label/csv", {});
    $("done").textContent = `Written: ${written.join(" and ")}.`;
  } catch (error) {
    $("done").textContent = error.message;
  }
});
onClick($("train"), async () => {
  try {
    const status = await ask("/label/train", {});
    show(status, true);
  } catch (error) {
    $("done").textContent = error.message;
  }
});

/** Looks at what the background does, as long as somebody looks at the page. */
async function look() {
  if (!busy && !document.hidden) {
    const before = shown;
    try {
      const status = await ask("/label/status");
      if (!busy && shown === before) show(status, false);
      if ($("wrong").textContent.startsWith("The labelling process")) complain("");
    } catch (error) {
      complain(error.message);
    }
  }
  setTimeout(look, OFTEN);
}

ask("/label/status").then(status => show(status, true), error => complain(error.message)).finally(() => {
  busy = false;
  setTimeout(look, OFTEN);
});
