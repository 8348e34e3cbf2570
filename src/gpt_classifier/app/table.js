// A table is sent as it is, and comes back with predictions.

$("send").addEventListener("click", async () => {
  const [file] = $("table").files;
  if (!file) {
    $("sent").textContent = "Choose a file first.";
    return;
  }
  $("send").disabled = true;
  $("sent").textContent = "Classifying …";
  try {
    const asked = new URLSearchParams({name: file.name, column: $("column").value});
    const answer = await fetch(`/try/table?${asked}`, {method: "POST", body: await file.arrayBuffer()});
    if (!answer.ok) throw await refusal(answer);
    const name = /filename="(.*)"/.exec(answer.headers.get("content-disposition"))[1];
    const link = element("a", "", {download: name, href: URL.createObjectURL(await answer.blob())});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("sent").textContent = `Done: ${name} has the rows with their predictions.`;
  } catch (error) {
    $("sent").textContent = `The table can't be classified: ${error.message}.`;
  }
  $("send").disabled = false;
});
