// All text of documents, models and errors reaches the page as text nodes, never as HTML.

const find = (id) => document.getElementById(id);
const folder = find("folder"), question = find("question"), turns = find("turns"), error = find("error");
let messages = [];
let running = null; // the AbortController of the answer under way
let opener = null; // the citation whose passage is shown
let key = sessionStorage.getItem("leanrag-key") ?? "";

// Characters that control a terminal or change the writing direction are shown as escapes.
const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const visible = (text) => text.replaceAll("\r\n", "\n").replace(UNSAFE,
  (char) => "\\u" + char.charCodeAt(0).toString(16).padStart(4, "0"));

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = visible(text);
  if (className) made.className = className;
  return made;
}

// Requests

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    await askForKey();
    return request(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered with status ${response.status}`);
  }
  return response;
}

const post = (path, body, signal) => request(path, {
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal,
});

let keyDialog = null; // one dialog for all requests that wait for the key

function askForKey() {
  keyDialog ??= new Promise((resolve) => {
    const dialog = find("key-dialog");
    dialog.addEventListener("close", () => {
      key = find("key").value;
      sessionStorage.setItem("leanrag-key", key);
      keyDialog = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return keyDialog;
}

async function* events(response) {
  let text = "";
  for await (const part of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
    text += part;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function* chunks(stream) { // not every browser can iterate over a stream
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

// Questions and answers

async function ask(text) {
  const turn = turns.appendChild(element("article", "", "turn"));
  turn.append(element("p", text, "question"));
  const answer = turn.appendChild(element("p", "", "answer"));
  turn.setAttribute("aria-busy", "true"); // a screen reader reads the answer when it is complete
  setRunning(new AbortController());
  messages.push({ role: "user", content: text });
  let written = "", details = null, thoughts = null, usage = null;
  try {
    const body = { model: folder.value, messages, stream: true, stream_options: { include_usage: true } };
    const response = await post("v1/chat/completions", body, running.signal);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices[0]?.delta;
      if (delta?.reasoning_content) {
        thoughts ??= turn.insertBefore(element("p", "", "thoughts"), answer);
        thoughts.append(visible(delta.reasoning_content));
      }
      if (delta?.content) {
        written += delta.content;
        answer.append(visible(delta.content));
      }
      details = event.leanrag ?? details;
      usage = event.usage ?? usage;
    }
    messages.push({ role: "assistant", content: details.text });
    showAnswer(turn, answer, details, usage);
  } catch (problem) {
    messages.pop();
    if (problem.name === "AbortError") answer.append(element("em", written ? " (stopped)" : "Stopped."));
    else {
      turn.remove();
      question.value ||= text;
      error.textContent = visible(problem.message);
    }
  } finally {
    turn.removeAttribute("aria-busy");
    setRunning(null);
  }
}

function showAnswer(turn, answer, details, usage) {
  const citations = new Map(details.citations.map((citation) => [String(citation.number), citation]));
  answer.replaceChildren(...details.text.split(/(\[\d+\])/).map((part) => {
    const citation = part.startsWith("[") && citations.get(part.slice(1, -1));
    return citation ? citationButton(citation) : document.createTextNode(visible(part));
  }));
  if (details.model !== null && !details.abstained) {
    turn.append(element("p", details.is_supported ? "The sources support this answer." : "The sources do not support this answer.",
      `verdict ${details.is_supported ? "supported" : "unsupported"}`));
  }
  turn.append(budget(details.sources), element("p", facts(details, usage), "facts"));
}

function citationButton(citation) {
  const button = element("button", `[${citation.number}]`, "citation");
  button.type = "button";
  const place = citation.location ? `, ${citation.location}` : "";
  button.setAttribute("aria-label", `Citation ${citation.number}: ${visible(citation.title || citation.document_id)}${place}`);
  const from = folder.value;
  button.addEventListener("click", () => report(() => showPassage(button, citation, from)));
  return button;
}

function budget(sources) {
  const line = element("div", "", "budget");
  const label = element("label", "Tokens of sources ");
  const meter = element("meter");
  [meter.min, meter.max, meter.value] = [0, Math.max(sources.budget, 1), sources.tokens];
  label.append(meter);
  line.append(label, element("span", `${sources.tokens} of ${sources.budget}; ${sources.shown} ${sources.shown === 1 ? "source" : "sources"} shown, ${sources.dropped} left out`));
  return line;
}

function facts(details, usage) {
  const parts = [details.model ?? "no model was asked"];
  if (usage) parts.push(`${usage.prompt_tokens} + ${usage.completion_tokens} tokens`);
  parts.push(`${details.seconds.toFixed(2)} s`, details.cost === null ? "no cost" : `cost ${details.cost.toPrecision(3)}`);
  if (details.confidence !== null) parts.push(`confidence ${details.confidence.toFixed(2)}`);
  return parts.join(" · ");
}

async function showPassage(button, citation, from) {
  const where = new URLSearchParams({ folder: from, id: citation.document_id, start: citation.start, end: citation.end });
  const passage = await (await request(`documents/passage?${where}`)).json();
  opener = button;
  find("passage-title").textContent = visible(passage.title || passage.id);
  find("passage-place").textContent = visible([passage.location, `characters ${citation.start} to ${citation.end}`].filter(Boolean).join(", "));
  const quote = element("mark", passage.quote);
  find("passage-text").replaceChildren(visible(passage.before), quote, visible(passage.after));
  find("passage").hidden = false;
  find("passage").focus();
  quote.scrollIntoView({ block: "center" });
  await showPage(passage, from);
}

// The page of a PDF file beside its text. The text is enough if the page cannot be drawn.
async function showPage(passage, from) {
  const canvas = find("passage-page"), shown = opener;
  canvas.hidden = true;
  if (passage.page === null) return;
  const where = new URLSearchParams({ folder: from, id: passage.id, page: passage.page });
  const picture = await request(`documents/page?${where}`).then((response) => response.blob()).then(createImageBitmap).catch(() => null);
  if (picture === null || opener !== shown) return; // another passage was opened meanwhile
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  canvas.setAttribute("aria-label", `Picture of page ${passage.page}; its text follows`);
  canvas.hidden = false;
}

function closePassage() {
  if (find("passage").hidden) return;
  find("passage").hidden = true;
  opener?.focus();
}

function setRunning(controller) {
  running = controller;
  find("send").disabled = folder.disabled = controller !== null;
  find("stop").disabled = controller === null;
}

// Documents

async function showDocuments() {
  const list = await (await request(`documents?${new URLSearchParams({ folder: folder.value })}`)).json();
  find("count").textContent = list.total === 1 ? "1 document" : `${list.total} documents`;
  find("documents").replaceChildren(...list.documents.map((each) => element("li", each.title || each.id)));
  find("drop").hidden = folder.selectedOptions[0]?.dataset.canAdd !== "true";
}

async function addFiles(files) {
  const target = folder.value;
  for (const file of files) {
    const line = find("added").appendChild(element("li", `${file.name}: is being added`));
    try {
      const where = new URLSearchParams({ folder: target, name: file.name });
      const headers = { "Content-Type": "application/octet-stream" };
      const added = await (await request(`add/file?${where}`, { method: "POST", body: file, headers })).json();
      line.textContent = visible(`${file.name}: ${added.unchanged.length ? "unchanged" : `added, ${added.chunks} ${added.chunks === 1 ? "chunk" : "chunks"}`}`);
    } catch (problem) {
      line.textContent = visible(`${file.name}: ${problem.message}`);
      line.className = "failed";
    }
  }
  await showDocuments();
}

// The page

async function report(work) {
  error.textContent = "";
  try {
    await work();
  } catch (problem) {
    error.textContent = visible(problem.message);
  }
}

function clear() {
  messages = [];
  turns.replaceChildren();
  closePassage();
  error.textContent = "";
  question.focus();
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || running) return;
  question.value = "";
  report(() => ask(text));
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (running) running.abort();
  else closePassage();
});
find("stop").addEventListener("click", () => running?.abort());
find("new").addEventListener("click", clear);
find("passage-close").addEventListener("click", closePassage);
folder.addEventListener("change", () => {
  clear();
  report(showDocuments);
});
find("files").addEventListener("change", async (event) => {
  await report(() => addFiles([...event.target.files]));
  event.target.value = "";
});
const canDrop = (event) => [...event.dataTransfer.types].includes("Files") && !find("drop").hidden;
document.addEventListener("dragover", (event) => {
  if (!canDrop(event)) return;
  event.preventDefault();
  find("drop").classList.add("over");
});
document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  if (!canDrop(event)) return;
  event.preventDefault();
  find("drop").classList.remove("over");
  report(() => addFiles([...event.dataTransfer.files]));
});

report(async () => {
  const { folders } = await (await request("folders")).json();
  folder.replaceChildren(...folders.map(({ name, can_add }) => {
    const option = element("option", name);
    option.value = name;
    option.dataset.canAdd = can_add;
    return option;
  }));
  if (!folders.length) {
    error.textContent = "This server has no folder that you may see.";
    return;
  }
  await showDocuments();
  question.focus();
});
