/** The classifier in this page. */
async function openClassifier() {
  if (typeof DecompressionStream === "undefined")
    throw new Error("this browser is too old; any of 2023 or later will do");
  const spec = JSON.parse($("spec").textContent);
  const bytes = await inflate(decodeBase85($("weights").textContent));
  return new Classifier(spec, unpack(spec.tensors, bytes));
}
