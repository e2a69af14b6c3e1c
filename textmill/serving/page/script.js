// The page writes while one looks: the form's values go to /v1/completions, and its events become the text.
"use strict";

const el = (id) => document.getElementById(id);
const form = el("ask"), sheet = el("text"), status = el("status");
const KIND = document.body.dataset.kind, MODEL = document.body.dataset.model;
let writing = null; // the AbortController of what is being written
let shown = "";

// ---------------------------------------------------------------- how a text is set; the rules of textmill/writing/typesetting.py

const NAME = "[A-Z][A-Z0-9'’._&-]*(?:[ \\t]+[A-Z0-9'’._&-]+){0,4}";
const SPEECHES = [
  new RegExp(`^(${NAME})\\t(.*)$`),
  /^\[ ?([^\[\]\t]{1,60}?) ?\]\s*:\s*(.*)$/,
  /^([A-Z][\p{L}\p{N}_'’. -]{0,40}?):\s+(.*)$/u,
];
const HEADING = /^(?:ACT|SCENE|PROLOGUE|EPILOGUE|CHORUS)\b[^a-z]{0,12}(?:\t.*|\s.*)?$/;
const DIRECTION = /^(?:\[[^\]]*\]?|\{\{.*?(?:\}\})?[ .]*|\([^)]*\))$/;

const speechOf = (line) => SPEECHES.map((p) => p.exec(line)).find(Boolean);
const trimmed = (line) => line.replace(/\}\}( \.)*/g, "").replaceAll("{{", "").trim();

function blocksOf(text) {
  const lines = text.split("\n");
  if (KIND === "posts") return text.trim() ? [{ kind: "post", lines: [text.trim()] }] : [];
  const full = lines.filter((line) => line.trim());
  const spoken = full.filter(speechOf).length;
  if (KIND === "script" || (spoken >= 2 && spoken * 8 >= full.length)) return script(lines);
  return paragraphs(lines);
}

function script(lines) {
  const blocks = [];
  let open = null; // what a further line belongs to
  for (const line of lines) {
    const bare = line.trim();
    const speech = speechOf(line);
    if (!bare) open = null;
    else if (DIRECTION.test(bare) && !speech) blocks.push({ kind: "direction", lines: [trimmed(line)] });
    else if (HEADING.test(bare)) {
      open = null;
      blocks.push({ kind: "heading", lines: [trimmed(line).replaceAll("\t", " · ")] });
    } else if (speech) {
      const first = speech[2].trim();
      open = { kind: "speech", name: speech[1].replaceAll("_", " ").trim(), lines: first ? [first] : [] };
      blocks.push(open);
    } else if (open) open.lines.push(trimmed(line));
    else {
      open = { kind: "plain", lines: [trimmed(line)] };
      blocks.push(open);
    }
  }
  return blocks;
}

function paragraphs(lines) {
  const blocks = [];
  let paragraph = [];
  for (const line of [...lines, ""]) {
    if (line.trim()) paragraph.push(line);
    else if (paragraph.length) {
      blocks.push({ kind: "plain", lines: paragraph });
      paragraph = [];
    }
  }
  const [first] = blocks;
  if (KIND === "episodes" && first && first.lines.length === 1 && lines.length > 1 && isTitle(first.lines[0]))
    first.kind = "title";
  return blocks;
}

const isTitle = (line) => line.trim().length <= 80 && !/[.!?…”"]$/.test(line.trim());

function elementOf(block) {
  const make = (name, kind, text) => {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  if (block.kind === "title") return make("h2", "", block.lines.join(" "));
  if (block.kind === "speech") {
    const speech = make("div", "speech");
    speech.append(make("b", "", block.name), ...block.lines.map((line) => make("p", "", line)));
    return speech;
  }
  if (block.kind === "post") {
    const post = make("div", "post"), count = [...block.lines[0]].length;
    post.append(make("p", "", block.lines[0]), make("footer", "", `${count} characters`));
    return post;
  }
  return make("p", block.kind, block.lines.join("\n"));
}

/** Show a text: only the elements that changed are replaced, so that a selection in earlier ones stays. */
function show(text) {
  shown = text;
  const wanted = blocksOf(text).map(elementOf);
  wanted.forEach((element, place) => {
    const there = sheet.children[place];
    if (!there) sheet.append(element);
    else if (!there.isEqualNode(element)) there.replaceWith(element);
  });
  while (sheet.children.length > wanted.length) sheet.lastElementChild.remove();
}

// ---------------------------------------------------------------- writing

function say(text, bad = false) {
  status.textContent = text;
  status.className = bad ? "bad" : "";
}

function asked() {
  const number = (id) => (el(id).value.trim() === "" ? undefined : Number(el(id).value));
  const preset = el("preset").selectedOptions[0];
  const values = {
    model: MODEL,
    prompt: el("prompt").value,
    max_tokens: number("length"),
    temperature: number("temperature"),
    top_p: Number(preset.dataset.topP),
    seed: number("seed"),
    echo: true,
    stream: true,
    stream_options: { include_usage: true },
  };
  if (KIND === "posts") values.most_characters = 280;
  if (KIND === "episodes") values.whole_sentences = true;
  return values;
}

function linkOf(seed) {
  const fields = new URLSearchParams();
  for (const name of ["prompt", "preset", "temperature", "length"]) if (el(name).value) fields.set(name, el(name).value);
  fields.set("seed", seed);
  return new URL(`?${fields}`, location.href).href.replace(/#.*/, "");
}

function busy(on) {
  el("write").setAttribute("aria-disabled", on);
  el("stop").hidden = !on;
  sheet.classList.toggle("writing", on);
  sheet.setAttribute("aria-busy", on);
}

async function write() {
  if (writing) return;
  const own = (writing = new AbortController());
  el("result").hidden = false;
  for (const id of ["copy", "share", "again"]) el(id).hidden = true;
  show("");
  busy(true);
  say("Waiting for the model …");
  const began = performance.now();
  const told = { text: "", seed: undefined, tokens: 0, reason: "" };
  try {
    const token = el("token").value;
    const answer = await fetch("v1/completions", {
      method: "POST",
      headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(asked()),
      signal: own.signal,
    });
    if (!answer.ok) throw new Refused(answer, await answer.json().catch(() => ({})));
    for await (const event of eventsOf(answer.body)) {
      if (event.error) throw new Error(event.error.message);
      told.seed ??= event.seed;
      if (event.usage) told.tokens = event.usage.completion_tokens;
      const [choice] = event.choices;
      if (!choice) continue;
      if (!told.text && choice.text) say("Writing …");
      told.text += choice.text;
      told.reason = choice.ended_by || choice.finish_reason || told.reason;
      if (choice.text) soon(() => show(told.text));
    }
    show(told.text);
    const seconds = (performance.now() - began) / 1000;
    say(told.text.trim() ? `Done: ${told.tokens} ${el("length").labels[0].textContent.split(" in ")[1]} in ${seconds.toFixed(1)} s.`
                         : "The model ended the text at once. Try another beginning, or another seed.");
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else say(explained(error), true);
  } finally {
    writing = null;
    busy(false);
    if (told.text) {
      if (told.seed !== undefined) el("again").href = linkOf(told.seed);
      for (const id of ["copy", "share", "again"]) el(id).hidden = false;
    } else if (!shown) el("result").hidden = true;
  }
}

/** Draw at most once a frame, however fast the model is. */
let waiting = null;
function soon(draw) {
  if (waiting === null) requestAnimationFrame(() => { const now = waiting; waiting = null; now(); });
  waiting = draw;
}

class Refused extends Error {
  constructor(answer, body) {
    super(body.error ? body.error.message : answer.statusText);
    this.status = answer.status;
    this.wait = answer.headers.get("retry-after");
  }
}

function explained(error) {
  const wait = error.wait ? ` Try again in ${error.wait} seconds.` : " Try again in a moment.";
  if (error.status === 401) {
    el("token-field").hidden = false;
    el("token").focus();
    return "This model wants an access token.";
  }
  if (error.status === 429) return `Many people are writing just now.${wait}`;
  if (error.status === 503) return `The model is not ready.${wait}`;
  if (error.status >= 500) return "Something went wrong on the server.";
  if (error.status) return error.message[0].toUpperCase() + error.message.slice(1);
  return "The connection was lost. What had arrived stands below.";
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      if (part.startsWith("data: ")) yield JSON.parse(data);
    }
  }
}

// ---------------------------------------------------------------- the form

form.addEventListener("submit", (event) => {
  event.preventDefault();
  write();
});
el("stop").addEventListener("click", () => writing && writing.abort());
el("preset").addEventListener("change", () => {
  el("temperature").value = el("preset").selectedOptions[0].dataset.temperature;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "Escape" && writing) writing.abort();
});
document.querySelectorAll(".examples a").forEach((link) =>
  link.addEventListener("click", (event) => {
    event.preventDefault();
    el("prompt").value = link.dataset.prompt;
    form.requestSubmit();
  }),
);

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // a page without https has no clipboard of its own
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(button === el("share") ? "The link is copied: it leads to this very text." : "The text is copied.");
  button.focus();
}
el("copy").addEventListener("click", () => copied(el("copy"), shown));
el("share").addEventListener("click", () => copied(el("share"), el("again").href));

el("keys").hidden = matchMedia("(pointer: coarse)").matches;
if (!el("result").hidden) { // the server wrote it already: from a shared link
  shown = sheet.innerText;
  el("copy").hidden = el("share").hidden = false;
}
window.textmillBlocks = blocksOf; // for the tests: the same blocks as textmill/writing/typesetting.py makes
