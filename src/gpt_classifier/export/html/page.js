// The page: what is typed goes to the classifier, and what it says is shown. Texts are only ever set as textContent.

const MOST_BARS = 10, MOST_ROWS = 500;  // classes and texts that are shown
const MOST_COLUMNS = 20;                // classes up to which each has a column in the CSV, as in gpt-classifier predict
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/; // beginnings of a cell that a spreadsheet may run as a formula

const $ = id => document.getElementById(id);
const percent = probability => `${(100 * probability).toFixed(1)} %`;
const best = probabilities => probabilities.indexOf(Math.max(...probabilities));
const isEmpty = text => /^[\p{White_Space}\x1c-\x1f]*$/u.test(text);

function element(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...properties});
}

/** How a prediction is drawn, the stronger the surer: of two classes the first is blue, everything else orange. */
function colourOf(probabilities) {
  const classes = probabilities.length, likely = best(probabilities);
  const sure = (probabilities[likely] - 1 / classes) / (1 - 1 / classes);
  const full = classes === 2 && likely === 0 ? [85, 136, 187] : [224, 122, 68];
  return `rgb(${full.map(value => Math.round(255 + (value - 255) * (0.15 + 0.75 * sure))).join(", ")})`;
}

function showAnswer(classes, found) {
  const {probabilities, tokens, kept, pieces} = found;
  const order = classes.map((_, c) => c).sort((one, other) => probabilities[other] - probabilities[one]);
  $("answer").replaceChildren(element("b", classes[order[0]]), ` ${percent(probabilities[order[0]])}`);
  $("bars").replaceChildren(...order.slice(0, MOST_BARS).map(c => {
    const row = element("tr", ""), bar = element("td", percent(probabilities[c]), {className: "n bar"});
    bar.style.setProperty("--part", `${100 * probabilities[c]}%`);
    row.append(element("th", classes[c], {scope: "row"}), bar);
    return row;
  }));
  const rest = order.slice(MOST_BARS).reduce((sum, c) => sum + probabilities[c], 0);
  $("others").textContent = order.length > MOST_BARS ? `${order.length - MOST_BARS} other classes: ${percent(rest)}` : "";
  $("cut").textContent = kept < tokens ? `Only ${kept} of its ${tokens} tokens were read.` : "";
  $("coloured").replaceChildren(...pieces.map(piece => {
    const likely = best(piece.probabilities);
    const span = element("span", piece.text, {title: `${classes[likely]} ${percent(piece.probabilities[likely])}`});
    span.style.background = colourOf(piece.probabilities);
    return span;
  }));
  $("tokens").replaceChildren(...pieces.map(({text, probabilities}) => {
    const row = element("tr", ""), likely = best(probabilities);
    row.append(element("td", text, {className: "token"}), element("td", classes[likely]),
               element("td", percent(probabilities[likely]), {className: "n"}));
    return row;
  }));
  $("found").hidden = false;
}

/** What is said of the text that stands in the field, whenever it changes. */
function classifyOne(classifier) {
  const {classes, trace} = classifier.spec;
  let running = new AbortController(), waiting;
  async function answer() {
    running.abort();
    running = new AbortController();
    const {signal} = running, text = $("text").value;
    if (isEmpty(text)) {
      $("answer").textContent = "";
      $("found").hidden = true;
      return;
    }
    try {
      const found = await classifier.classify(text, {trace, signal});
      if (!signal.aborted) showAnswer(classes, found);
    } catch (error) {
      if (signal.aborted) return;
      $("answer").textContent = `The text can't be classified: ${error.message}.`;
      $("found").hidden = true;
    }
  }
  $("text").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(answer, 150);
  });
  for (const button of document.querySelectorAll("#examples button")) button.addEventListener("click", () => {
    $("text").value = button.textContent;
    answer();
  });
  return answer();
}

/** The rows of a table of many texts, classified one after another. */
async function classifyMany(classifier, texts, signal, progress) {
  const rows = [];
  for (const text of texts) {
    try {
      rows.push({text, probabilities: (await classifier.classify(text, {signal})).probabilities});
    } catch (error) {
      if (signal.aborted) return rows;
      rows.push({text, reason: error.message});
    }
    progress(rows);
  }
  return rows;
}

function tableRow(classes, {text, probabilities, reason}) {
  const row = element("tr", ""), likely = probabilities && best(probabilities);
  row.append(element("td", probabilities ? classes[likely] : reason, {className: "name"}),
             element("td", probabilities ? percent(probabilities[likely]) : "", {className: "n"}),
             element("td", text, {className: "text", dir: "auto"}));
  if (probabilities) row.cells[1].dataset.order = probabilities[likely];
  return row;
}

/** A table as CSV with the columns of gpt-classifier predict. */
function csv(classes, rows) {
  const each = classes.length <= MOST_COLUMNS ? classes : [];
  const cell = value => {
    const safe = FORMULA.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [["text", "predicted_label", "confidence", ...each.map(name => `probability_${name}`), "reason"]];
  for (const {text, probabilities, reason} of rows) {
    const numbers = probabilities ? [Math.max(...probabilities), ...each.map((_, c) => probabilities[c])] : [];
    const shown = each.length + 1;
    lines.push([text, probabilities ? classes[best(probabilities)] : "",
                ...Array.from({length: shown}, (_, i) => numbers[i]?.toFixed(6) ?? ""), reason ?? ""]);
  }
  return lines.map(line => line.map(cell).join(",") + "\n").join("");
}

function download(name, text) {
  const link = element("a", "", {download: name, href: URL.createObjectURL(new Blob(["\ufeff", text], {type: "text/csv"}))});
  link.click(); // the mark in front tells spreadsheets that it is UTF-8
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** The part of the page about many texts. */
function offerMany(classifier) {
  const {classes} = classifier.spec;
  let rows = [], running;
  $("file").addEventListener("change", async () => {
    if ($("file").files.length) $("lines").value = await $("file").files[0].text();
  });
  $("classify").addEventListener("click", async () => {
    const texts = $("lines").value.split("\n").filter(text => !isEmpty(text));
    running = new AbortController();
    $("classify").disabled = true;
    $("stop").hidden = $("progress").hidden = false;
    $("progress").max = texts.length || 1;
    $("rows").replaceChildren();
    $("download").hidden = $("many").hidden = true;
    $("count").textContent = $("more").textContent = "";
    rows = await classifyMany(classifier, texts, running.signal, done => {
      $("progress").value = done.length;
      if (done.length <= MOST_ROWS) $("rows").append(tableRow(classes, done.at(-1)));
      $("many").hidden = false;
    });
    $("classify").disabled = false;
    $("stop").hidden = $("progress").hidden = true;
    $("download").hidden = !rows.length;
    showCount(classes, rows, texts.length);
  });
  $("stop").addEventListener("click", () => running.abort());
  $("download").addEventListener("click", () => download("predictions.csv", csv(classes, rows)));
  $("classify").disabled = false;
}

function showCount(classes, rows, asked) {
  const counts = classes.map(() => 0);
  for (const {probabilities} of rows) if (probabilities) counts[best(probabilities)]++;
  const found = classes.map((name, c) => [counts[c], name]).filter(([count]) => count).sort((one, other) => other[0] - one[0]);
  const named = found.slice(0, MOST_BARS).map(([count, name]) => `${count} ${name}`).join(", ");
  const part = rows.length < asked ? `Stopped after ${rows.length} of ${asked} texts` : `${rows.length} ${rows.length === 1 ? "text" : "texts"}`;
  $("count").textContent = asked ? `${part}${named ? `: ${named}` : ""}${found.length > MOST_BARS ? ", …" : ""}.` : "There is no text in the field.";
  $("more").textContent = rows.length > MOST_ROWS ? `These are the first ${MOST_ROWS}; all are in the CSV.` : "";
}

/** The classifier, once it is unpacked: what tests and the console of the browser ask. */
const ready = openClassifier();
ready.then(classifier => {
  const {classes} = classifier.spec;
  $("legend").textContent = classes.length === 2 ? `blue ${classes[0]}, orange ${classes[1]}` : "orange, the surer the stronger";
  offerMany(classifier);
  return classifyOne(classifier);
}).catch(error => {
  $("answer").textContent = "";
  $("broken").textContent = `The classifier can't be opened: ${error.message}.`;
  $("broken").hidden = false;
});
