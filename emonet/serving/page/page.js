// The server's page: a recording is chosen, dropped or recorded, sent to /v1/timeline, and shown as a timeline's page shows it.
const {words, limits} = JSON.parse($("words").textContent);
const TOKEN = "emonet.token", STRONGEST = 5, TICK = 1000, HEAD = 44, FORM = 4096; // in sessionStorage; emotions; ms; bytes of a WAV file before its samples, and of a form around its parts
const page = {token: "", door: "", models: [], kept: null, file: null, name: "", recorded: false, source: "", data: null, timeline: null, view: null, work: null, live: null, pending: null};
try { page.token = sessionStorage.getItem(TOKEN) ?? ""; } catch { /* a browser that keeps nothing */ }
const number = (value, digits) => value.toFixed(digits).replace("-", "−").replace(".", words.point);
const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
function tell(what) { $("told").textContent = what; }
const recording = () => Boolean(page.live?.on);
function arrange() { // what can be seen; the door is "key" or "open", and neither at first
  $("key").hidden = page.door !== "key"; $("live").hidden = !recording(); $("choose").hidden = page.door !== "open" || recording();
  $("kept").hidden = !page.kept || page.kept.file === page.file; // what is shown has a button of its own
  $("kept-name").textContent = page.kept ? fill(words.unsaved, page.kept.name) : "";
}
function home(id = "pick") { $(recording() ? "stop" : page.door === "key" ? "token" : id).focus(); }
function rescue(id) { // the focus, from what has gone
  const at = document.activeElement;
  if (!at || at === document.body || !at.getClientRects().length) $(recording() ? "stop" : id).focus();
}

// What goes wrong is said in the reader's language; the server's own sentence stands below
class Trouble extends Error {
  constructor(what, said = "", status = 0) { super(what); Object.assign(this, {said, status}); }
}
function complain(error, again = null) {
  if (error.status === 401) { page.pending = again; return; } // the form for the token says it
  const parts = [make("p", error instanceof Trouble ? error.message : fill(words.failed, error))];
  if (error.said) { const said = make("p", `${words.said} `, {className: "quiet"}); said.append(make("q", error.said, {lang: "en"})); parts.push(said); }
  if (again) parts.push(make("button", words.again, {type: "button", onclick: () => { quiet(); again(); }}));
  $("trouble").className = "note"; $("trouble").replaceChildren(...parts);
}
function quiet() { $("trouble").className = ""; $("trouble").replaceChildren(); }
async function ask(path, content = {}) {
  const headers = page.token ? {Authorization: `Bearer ${page.token}`} : {};
  let answer, told = {};
  try { answer = await fetch(path, {...content, headers: {...headers, ...content.headers}}); }
  catch (error) { throw error.name === "AbortError" ? error : new Trouble(words.gone); }
  if (answer.ok) return answer;
  try { told = await answer.json(); } catch { /* the page of a proxy */ }
  if (answer.status === 401) wantToken();
  const what = answer.status === 401 ? (page.token ? words.token_wrong : words.token_wanted) : words.statuses[answer.status] ?? fill(words.refused, answer.status);
  throw new Trouble(what, answer.status === 401 ? "" : [told.error, told.hint].filter(one => typeof one === "string").join("; "), answer.status);
}
async function read(answer) {
  try { return await answer.json(); } catch (error) { throw error.name === "AbortError" ? error : new Trouble(words.broken); }
}

// Tokens and models
function wantToken() {
  page.door = "key"; arrange();
  $("key-why").textContent = page.token ? words.token_wrong : words.token_wanted;
  if (!page.live) $("token").focus();
}
$("key").addEventListener("submit", event => {
  event.preventDefault();
  const given = $("token").value.trim();
  if (/[^!-~]/.test(given)) { $("key-why").textContent = words.token_wrong; return; } // no header can have that
  page.token = given;
  try { sessionStorage.setItem(TOKEN, page.token); } catch { /* it lasts until the page is left */ }
  admit();
});
async function admit() {
  if (!await enter(admit)) return;
  const {pending} = page;
  page.pending = null; $("token").value = "";
  if (pending) pending();
  home();
}
async function learn(signal) {
  const {models, captions} = await read(await ask("v1/models", {signal}));
  page.models = models;
  $("model").replaceChildren(...models.map(({name, version}) => make("option", version === null ? name : `${name} (${version})`, {value: name})));
  $("models").hidden = models.length < 2; $("captioned").hidden = !captions;
  page.door = "open"; arrange();
}
async function enter(again = enter) {
  try {
    await learn();
    quiet();
    return true;
  } catch (error) {
    if (error.status !== 401) { page.door ||= "open"; arrange(); complain(error, again); }
    return false;
  } finally { performance.mark("usable"); }
}

// One recording after another
async function analyse(file, name, recorded = false) {
  quiet(); page.work?.abort();
  const again = () => analyse(file, name, recorded), work = page.work = new AbortController(), began = Date.now();
  const show = () => { $("working").textContent = fill(words.working, name, clock((Date.now() - began) / 1000)); };
  try {
    await readable(file);
    if (page.work !== work) return;
    show(); $("work").hidden = false; rescue("cancel");
    const tick = setInterval(show, TICK);
    try {
      if (!page.models.length) await learn(work.signal);
      const captions = $("captions").checked && !$("captioned").hidden, model = $("model").value;
      const query = new URLSearchParams({format: "json", view: true, mode: $("mode").value, channels: $("channels").value, captions, ...model && {model}});
      const answer = await ask(`v1/timeline?${query}`, {method: "POST", body: file, headers: {"Content-Type": "application/octet-stream"}, signal: work.signal});
      const {view, ...timeline} = await read(answer);
      if (page.work === work) present({file, name, recorded, data: view, timeline});
    } finally { clearInterval(tick); }
  } catch (error) {
    if (page.work !== work) return;
    if (error.name === "AbortError") tell(words.cancelled); else complain(error, helps(error) ? again : null);
  } finally { if (page.work === work) { page.work = null; $("work").hidden = true; rescue("trouble"); } }
}
const helps = ({status}) => ![400, 413, 415, 422].includes(status);
async function readable(file) {
  const megabytes = n => number(n / 1e6, n < 1e7 ? 1 : 0);
  if (file.size > limits.bytes) throw new Trouble(fill(words.too_large, megabytes(file.size), megabytes(limits.bytes)), "", 413);
  try { await file.slice(0, 1).arrayBuffer(); } catch { throw new Trouble(words.unreadable); }
  if (!file.size) throw new Trouble(words.empty, "", 422);
}
$("cancel").addEventListener("click", () => { page.work?.abort(); home(); });
$("pick").addEventListener("click", () => $("picked").click());
$("picked").addEventListener("change", event => {
  const [file] = event.target.files;
  if (file) analyse(file, file.name);
  event.target.value = ""; // the same file can be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
  event.preventDefault();
  $("drop").classList.toggle("over", kind === "dragover");
  if (kind !== "drop" || $("choose").hidden || page.live) return;
  const files = [...event.dataTransfer.files];
  if (!files.length) complain(new Trouble(words.no_file));
  else { analyse(files[0], files[0].name); if (files.length > 1) complain(new Trouble(words.one_only)); }
});

// What was heard
function present(made) {
  page.view?.close();
  if (page.source) URL.revokeObjectURL(page.source);
  Object.assign(page, made, {source: URL.createObjectURL(made.file)});
  if (page.kept?.file === page.file) page.kept.heard = true;
  arrange();
  const {data, timeline} = page, count = data.start.length;
  const segments = count === 1 ? words.one_segment : fill(words.segments_count, count);
  $("result").hidden = false;
  $("view").replaceChildren($("blank").content.cloneNode(true));
  page.view = timelineView(data, words, page.source);
  $("stage").addEventListener("segment", event => inSegment(event.detail));
  $("name").textContent = page.name;
  $("facts").textContent = fill(words.facts, page.view.clock(data.seconds), segments, timeline.model);
  const notices = [...timeline.notices, timeline.error].filter(Boolean).map(text => make("li", text, {lang: "en"}));
  if (!count) notices.unshift(make("li", words.no_speech));
  else if (data.flags.every(flags => flags.length)) notices.unshift(make("li", words.all_flagged));
  $("notices").replaceChildren(...notices);
  $("sound-file").hidden = !page.recorded;
  strongest($("overall"), overall());
  inSegment(-1);
  if (count) page.view.seek(data.start[0]);
  tell(fill(words.done, page.name, segments));
  if (!page.live) { $("name").focus({preventScroll: true}); $("result").scrollIntoView({block: "start"}); }
}
function overall() { // means over the time that is heard; of unflagged segments, where there are any
  const {data, view} = page, {targets} = view, all = data.start.map((_, i) => i);
  const rows = all.some(i => !view.flagged(i)) ? all.filter(i => !view.flagged(i)) : all;
  const mean = values => {
    let sum = 0, time = 0;
    for (const i of rows) if (values[i] !== null && values[i] !== undefined) { const long = data.end[i] - data.start[i]; sum += values[i] * long; time += long; }
    return time ? sum / time : null;
  };
  const found = targets.flatMap((target, t) => {
    const score = target.ranked ? mean(data.scores[t]) : null;
    if (score === null) return [];
    const rank = data.standardised ? mean(data.standardised[t]) : (score - target.low) / (target.high - target.low);
    return [{target, score, rank, spread: data.uncertainties ? mean(data.uncertainties[t]) : null}];
  });
  return found.sort((a, b) => b.rank - a.rank).slice(0, STRONGEST);
}
function inSegment(i) {
  const {data, view} = page, at = t => view.clock(t, 1);
  $("segment-head").textContent = i >= 0 ? fill(words.in_segment, at(data.start[i]), at(data.end[i])) + view.doubts(i) : words.no_segment;
  strongest($("segment"), i < 0 ? [] : view.strongest(i, STRONGEST).map(t => ({target: view.targets[t], score: data.scores[t][i], spread: data.uncertainties?.[t][i]})));
  $("says").textContent = i < 0 ? "" : data.caption[i];
}
function strongest(list, rows) { // bars on the scale of each, with their intervals
  list.replaceChildren(...rows.filter(({score}) => score !== null).map(({target, score, spread}) => {
    const row = make("li"), track = make("span", "", {className: "track"}), bar = make("span", "", {className: "fill"});
    const place = v => 100 * Math.max(0, Math.min(1, (v - target.low) / (target.high - target.low)));
    const known = spread !== null && spread !== undefined;
    bar.style.width = `${place(score)}%`;
    track.append(bar);
    if (known) {
      const range = make("span", "", {className: "spread"});
      range.style.left = `${place(score - spread)}%`; range.style.width = `${place(score + spread) - place(score - spread)}%`;
      track.append(range);
    }
    track.setAttribute("aria-hidden", "true");
    row.append(make("span", target.name), track, make("span", number(score, 2) + (known ? ` ± ${number(spread, 2)}` : ""), {className: "value"}));
    return row;
  }));
}

// Files to take away: the server writes them out of the timeline that is here
for (const button of $("downloads").querySelectorAll("[data-format]")) button.addEventListener("click", () => download(button.dataset.format));
$("sound-file").addEventListener("click", () => keep(page));
$("keep").addEventListener("click", () => { keep(page.kept); home("record"); });
const stem = name => name.replace(/\.[^.]{1,5}$/, "").replace(/[\\/:*?"<>|]+/g, "-");
async function download(format) {
  quiet();
  const form = new FormData(), held = new Blob([JSON.stringify({...page.timeline, audio: page.name})], {type: "application/json"});
  const name = `${stem(page.name)}.${format}`, fits = page.file.size + held.size + FORM <= limits.bytes;
  form.append("timeline", held, "timeline.json");
  if (format === "html" && fits) form.append("file", page.file, "recording");
  try {
    save(await (await ask(`v1/export?format=${format}`, {method: "POST", body: form})).blob(), name);
    if (format === "html" && !fits) complain(new Trouble(words.without_sound));
  }
  catch (error) { complain(error, helps(error) ? () => download(format) : null); }
}
function save(blob, name) {
  const link = make("a", "", {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60 * TICK);
  tell(fill(words.downloaded, name));
}

function keep({file, name}) {
  save(file, `${stem(name)}.wav`);
  if (page.kept?.file === file) page.kept = null;
  arrange();
}
addEventListener("beforeunload", event => { if (page.live || (page.kept && !page.kept.heard)) event.preventDefault(); });

// The microphone: 16-bit samples, kept for the recording and sent to /v1/stream as they come
$("record").addEventListener("click", record);
$("stop").addEventListener("click", () => finish());
$("discard").addEventListener("click", () => { hangUp(); home("record"); });
async function record() {
  quiet();
  if (page.live) return;
  if (!navigator.mediaDevices?.getUserMedia) { complain(new Trouble(words.mic_none_here)); return; }
  const live = page.live = {on: false, parts: [], count: 0, rate: 0, media: null, context: null, socket: null, scored: false};
  try {
    live.media = await navigator.mediaDevices.getUserMedia({audio: {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
    const microphone = listen(live), {context} = live;
    await context.audioWorklet.addModule("page/capture.js");
    const capture = new AudioWorkletNode(context, "capture", {numberOfOutputs: 0});
    capture.port.onmessage = ({data}) => hear(live, data);
    microphone.connect(capture);
    await context.resume();
  } catch (error) {
    hangUp();
    complain(new Trouble(words.mic[error.name] ?? fill(words.mic.other, error.message)));
    return;
  }
  for (const track of live.media.getTracks()) track.addEventListener("ended", () => finish(words.unplugged));
  $("heard").replaceChildren(); $("heard-why").textContent = $("streamed").checked ? words.live_soon : ""; $("elapsed").textContent = clock(0);
  live.on = true; arrange();
  if ($("streamed").checked) stream(live);
  tell(words.live); $("stop").focus();
}
function listen(live) { // at the server's rate, where the browser resamples; else at the microphone's
  for (const options of [{sampleRate: 16000}, {}]) {
    const context = live.context = new AudioContext(options);
    live.rate = context.sampleRate;
    try { return context.createMediaStreamSource(live.media); } catch (error) { context.close(); if (!options.sampleRate) throw error; }
  }
}
function hear(live, samples) {
  if (page.live !== live) return;
  const count = live.count + samples.length;
  if (count / live.rate > limits.seconds || HEAD + 2 * count > limits.bytes) { finish(words.full); return; }
  live.parts.push(samples); live.count = count;
  $("level").value = samples.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 32768;
  $("elapsed").textContent = clock(live.count / live.rate);
  if (live.socket?.readyState === WebSocket.OPEN && live.socket.bufferedAmount < 1e6) live.socket.send(samples);
}
async function stream(live) {
  if (!page.models.length) { try { await learn(); } catch { /* the analysis says it */ } }
  if (page.live !== live) return;
  const url = new URL("v1/stream", location.href), silent = why => { if (page.live === live) $("heard-why").textContent = fill(words.live_none, why).trim(); };
  url.protocol = url.protocol.replace("http", "ws");
  const key = btoa(page.token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const socket = live.socket = new WebSocket(url, page.token ? ["emonet", `emonet.bearer.${key}`] : ["emonet"]);
  const model = $("model").value, {targets} = page.models.find(one => one.name === model) ?? {targets: []};
  const known = new Map(targets.map(one => [one.id, {...one, name: words.names[one.name] ?? one.name}]));
  let why = "";
  socket.onopen = () => socket.send(JSON.stringify({rate: live.rate, hop: 1, format: "s16le", ...model && {model}}));
  socket.onmessage = ({data}) => {
    const told = JSON.parse(data);
    if (told.type === "error") why = told.error;
    if (told.type !== "scores" || page.live !== live) return;
    const share = ([id, score]) => (score - known.get(id).low) / (known.get(id).high - known.get(id).low);
    const rows = Object.entries(told.scores).filter(([id]) => known.get(id)?.ranked).sort((a, b) => share(b) - share(a)).slice(0, STRONGEST);
    $("heard-why").textContent = fill(rows.length ? words.live_last : words.live_silent, number(told.end - told.start, 1));
    strongest($("heard"), rows.map(([id, score]) => ({target: known.get(id), score, spread: told.uncertainties[id]})));
  };
  socket.onclose = ({reason}) => { live.socket = null; silent(why || reason); };
}
function hangUp() {
  const live = page.live;
  page.live = null;
  live?.socket?.close(); live?.media?.getTracks().forEach(track => track.stop());
  if (live?.context && live.context.state !== "closed") live.context.close();
  arrange();
  return live;
}
function finish(why = "") {
  if (!page.live) return;
  const live = hangUp();
  if (!live.count) { complain(new Trouble(words.too_short)); home("record"); return; }
  const when = new Date().toLocaleString(document.documentElement.lang, {dateStyle: "medium", timeStyle: "medium"});
  const {file, name} = page.kept = {file: wave(live.parts, live.count, live.rate), name: fill(words.recorded, when), heard: false};
  arrange();
  analyse(file, name, true);
  if (why) complain(new Trouble(why));
}
function wave(parts, count, rate) { // a WAV file: mono, 16 bits
  const head = new DataView(new ArrayBuffer(HEAD)), spell = (at, letters) => [...letters].forEach((letter, n) => head.setUint8(at + n, letter.charCodeAt(0)));
  spell(0, "RIFF"); head.setUint32(4, 36 + 2 * count, true); spell(8, "WAVEfmt "); head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); head.setUint16(22, 1, true); head.setUint32(24, rate, true); head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true); spell(36, "data"); head.setUint32(40, 2 * count, true);
  return new Blob([head, ...parts], {type: "audio/wav"});
}

enter();
