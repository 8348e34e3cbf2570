// The classifier of the process that serves this page.

/** What an answer says is wrong, as an error. */
async function refusal(answer) {
  const told = await answer.json().catch(() => ({}));
  return new Error((told.error ?? `the app answered ${answer.status}`).replace(/\.$/, ""));
}

class Classifier {
  constructor(spec) { this.spec = spec; }

  /** Probabilities, how many tokens were read, and with `trace` the probabilities after each of them. */
  async classify(text, {trace = false, signal} = {}) {
    const answer = await fetch("/try/text", {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({text, trace}), signal,
    });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }
}

async function openClassifier() {
  return new Classifier(JSON.parse($("spec").textContent));
}
