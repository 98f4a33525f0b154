"use strict";
const $ = id => document.getElementById(id);
function make(tag, words = "", fields = {}) { return Object.assign(document.createElement(tag), {textContent: words}, fields); }
function fill(sentence, ...given) { return sentence.replace(/\{(\d)\}/g, (_, n) => given[n]); } // "{0} of {1}"

/* The view of a timeline in the markup of view.html: `data` as `view_facts` gives it, `words` of a language, and the address of
   the sound; empty: the reader is asked for the recording. `close()` ends it; the markup is thrown away then. */
function timelineView(data, words, source) {
const {start, end, speakers, speaker, seconds: total} = data, count = start.length, life = new AbortController();
const targets = data.targets.map(one => ({...one, name: words.names[one.name] ?? one.name}));
const stage = $("stage"), plot = $("plot"), over = $("over"), audio = $("audio");
const WAYS = 18, GAP = 1, ROWS = 100, PEAKS = 8, PAD = 10, LANES = 8, BIN = 3; // looks, s, rows, peaks, px, lanes, px
const flagged = i => data.flags[i].length > 0;
const ranked = targets.flatMap((target, t) => target.ranked ? [t] : []);
const state = {from: 0, to: total, at: 0, kind: "scores", band: true, speaker: -1, focus: data.chosen[0] ?? 0,
  until: null, hover: null, page: 0, key: "start", falling: false, shown: new Map(data.chosen.map((t, way) => [t, way]))};

// Numbers and words
const value = (t, i) => data[state.kind][t][i];
const known = v => v !== null && v !== undefined;
const figure = (v, digits) => v.toFixed(digits).replace(/^-(?=[0.]+$)/, "").replace("-", "−").replace(".", words.point);
const text = v => known(v) ? (state.kind === "scores" ? figure(v, 2) : (v > -.05 ? "+" : "−") + figure(Math.abs(v), 1)) : "–";
function clock(t, digits = 0) {
  const unit = 10 ** digits, rounded = Math.round(Math.max(0, t) * unit) / unit;
  const hours = Math.floor(rounded / 3600), minutes = Math.floor(rounded / 60) % 60;
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return (hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`).replace(".", words.point);
}
function say(words) { $("status").textContent = words; }
const strength = (t, i) => data.standardised ? data.standardised[t][i] : known(data.scores[t][i]) ? (data.scores[t][i] - targets[t].low) / (targets[t].high - targets[t].low) : null;
function strongest(i, most = 3) { // as exports rank: by z where there is one, whatever is drawn
  return ranked.filter(t => known(strength(t, i))).sort((a, b) => strength(b, i) - strength(a, i)).slice(0, most);
}
const heard = i => state.speaker < 0 || speaker[i] === state.speaker;

// Segments of one speaker or channel are a group: a lane, and a run of points for each curve
const groups = speakers.map((name, s) => ({name, s, rows: []}));
let longest = 0;
for (let i = 0; i < count; i++) { groups[speaker[i]].rows.push(i); longest = Math.max(longest, end[i] - start[i]); }
for (const group of groups) {
  const x = [], row = [], broken = [];
  group.rows.forEach((i, n) => {
    const before = group.rows[n - 1], next = group.rows[n + 1];
    const overlaps = (before !== undefined && end[before] > start[i] + .01) || (next !== undefined && start[next] < end[i] - .01);
    const apart = before === undefined || start[i] > end[before] + GAP || flagged(i) !== flagged(before);
    for (const [k, t] of (overlaps ? [(start[i] + end[i]) / 2] : [start[i], end[i]]).entries()) {
      x.push(t); row.push(i); broken.push(k === 0 && apart);
    }
  });
  Object.assign(group, {x: Float64Array.from(x), row, broken});
}
function below(sorted, wanted) { // how many are smaller
  let low = 0, high = sorted.length;
  while (low < high) { const middle = (low + high) >> 1; if (sorted[middle] < wanted) low = middle + 1; else high = middle; }
  return low;
}
function segmentAt(t) { // the one that is heard at that time; where several are, the one whose middle is nearest
  let best = -1, near = Infinity;
  for (let i = below(start, t + 1e-6) - 1; i >= 0 && start[i] >= t - longest; i--) {
    const away = Math.abs((start[i] + end[i]) / 2 - t);
    if (end[i] > t && heard(i) && away < near) { best = i; near = away; }
  }
  return best;
}

// Geometry: the strip of the whole recording, times, waveform, lanes, curves
const lanes = (data.speech ? [{name: words.speech, rows: null}] : []).concat(groups.length > LANES
  ? [...groups.slice(0, LANES - 1), {name: fill(words.others, groups.length - LANES + 1), rows: groups.slice(LANES - 1).flatMap(g => g.rows).sort((a, b) => a - b)}]
  : groups);
const tops = {strip: 4, ticks: 46, wave: 66, lanes: 138}, LANE = 18, CURVES = 250;
tops.curves = tops.lanes + lanes.length * LANE + 14;
const height = tops.curves + CURVES + 12;
let width = 0, left = 64, inks = {};
const span = () => state.to - state.from;
const px = t => left + (t - state.from) / span() * (width - left - PAD);
const time = x => state.from + (x - left) / (width - left - PAD) * span();
const whole = t => left + t / total * (width - left - PAD);
function look(from, to) {
  const wide = Math.min(total, Math.max(Math.min(total, .5), to - from));
  state.from = Math.min(Math.max(0, from), total - wide);
  state.to = state.from + wide;
  draw();
}
function zoom(factor, around = state.at >= state.from && state.at <= state.to ? state.at : (state.from + state.to) / 2) {
  look(around - (around - state.from) * factor, around + (state.to - around) * factor);
}
function step(extent, room) { // of ticks in seconds
  const steps = [.1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
  return steps.find(s => extent / s <= room) ?? 86400;
}

// Drawing
let frame = 0;
function draw() { frame ||= requestAnimationFrame(() => { frame = 0; if (!life.signal.aborted) { paint(); cursor(); } }); }
function fit(canvas) {
  const ratio = devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); canvas.style.height = `${height}px`;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "12px system-ui, sans-serif"; pen.textBaseline = "middle"; pen.lineJoin = pen.lineCap = "round";
  return pen;
}
function paint() {
  width = Math.max(240, stage.clientWidth); left = width < 600 ? 48 : 84;
  const css = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "rule", "accent", "wave", "band", "view", "c0", "c1", "c2", "c3", "c4", "c5"]) inks[name] = css.getPropertyValue(`--${name}`).trim();
  const pen = fit(plot);
  waveform(pen, whole, 0, total, tops.strip, 34);
  pen.fillStyle = inks.view; pen.strokeStyle = inks.accent;
  pen.fillRect(whole(state.from), tops.strip, Math.max(2, whole(state.to) - whole(state.from)), 34);
  pen.strokeRect(whole(state.from) + .5, tops.strip + .5, Math.max(2, whole(state.to) - whole(state.from) - 1), 33);
  ticks(pen);
  waveform(pen, px, state.from, state.to, tops.wave, 62);
  lanes.forEach((lane, n) => bands(pen, lane, tops.lanes + n * LANE));
  curves(pen);
}
const loudest = data.envelope.reduce((most, value) => Math.max(most, Math.abs(value)), 13); // a tenth of full scale at least
function waveform(pen, place, from, to, top, tall) {
  const parts = data.envelope.length / 2, middle = top + tall / 2;
  pen.fillStyle = inks.wave;
  if (!parts) { pen.fillRect(left, middle, width - left - PAD, 1); return; }
  const each = total / parts, first = Math.max(0, Math.floor(from / each)), last = Math.min(parts, Math.ceil(to / each));
  for (let k = first; k < last;) {
    const x = Math.max(left, Math.floor(place(k * each)));
    let low = 127, high = -127;
    do { low = Math.min(low, data.envelope[2 * k]); high = Math.max(high, data.envelope[2 * k + 1]); k++; }
    while (k < last && Math.floor(place(k * each)) <= x);
    const until = Math.min(width - PAD, Math.max(x + 1, place(k * each))), y = middle - high / loudest * tall / 2;
    pen.fillRect(x, y, until - x, Math.max(1, (high - low) / loudest * tall / 2));
  }
}
function ticks(pen) {
  const by = step(span(), (width - left - PAD) / 80), digits = by < 1 ? 1 : 0;
  pen.textAlign = "center";
  for (let n = Math.ceil(state.from / by); n * by <= state.to + 1e-9; n++) {
    const x = Math.round(px(n * by)) + .5;
    pen.fillStyle = inks.rule; pen.fillRect(x - .5, tops.wave, 1, height - tops.wave - 12);
    pen.fillStyle = inks.soft; pen.fillText(clock(n * by, digits), Math.min(x, width - 2 - pen.measureText(clock(n * by, digits)).width / 2), tops.ticks + 8);
  }
}
function clipped(words, room, pen) {
  if (pen.measureText(words).width <= room) return words;
  let short = [...words];
  while (short.length > 1 && pen.measureText(`${short.join("")}…`).width > room) short.pop();
  return `${short.join("")}…`;
}
function bands(pen, lane, top) {
  pen.textAlign = "right"; pen.fillStyle = inks.soft;
  pen.fillText(clipped(lane.name || words.segments, left - 10, pen), left - 6, top + LANE / 2);
  const begin = lane.rows ? lane.rows.map(i => start[i]) : data.speech.map(pair => pair[0]);
  const stop = lane.rows ? lane.rows.map(i => end[i]) : data.speech.map(pair => pair[1]);
  const away = lane.s !== undefined && state.speaker >= 0 && lane.s !== state.speaker;
  let drawn = -1;
  for (let n = Math.max(0, below(begin, state.from - (lane.rows ? longest : total))); n < begin.length && begin[n] < state.to; n++) {
    if (stop[n] < state.from) continue;
    const x = Math.max(left, px(begin[n]), drawn), until = Math.min(width - PAD, Math.max(px(stop[n]), px(begin[n]) + 1));
    if (until <= x) continue;
    const grey = lane.rows && flagged(lane.rows[n]), playing = lane.rows && lane.rows[n] === state.current;
    pen.globalAlpha = (playing ? 1 : grey ? .3 : lane.rows ? .75 : .4) * (away ? .3 : 1);
    pen.fillStyle = playing ? inks.accent : inks.band;
    pen.fillRect(x, top + 3, Math.max(1, until - x - (until - x > 4 ? 1 : 0)), LANE - 6);
    drawn = until;
  }
  pen.globalAlpha = 1;
}
const axis = {};
function measure() { // low and high end of the curves' axis; shares of each one's scale where scales differ
  const chosen = [...state.shown.keys()], some = targets[chosen[0]], z = state.kind !== "scores";
  axis.shares = !z && chosen.some(t => targets[t].low !== some.low || targets[t].high !== some.high);
  let low = Infinity, high = -Infinity;
  for (const t of chosen) {
    const spread = state.band && !z ? data.uncertainties?.[t] : null;
    data[state.kind][t].forEach((v, i) => { if (known(v)) { low = Math.min(low, v); high = Math.max(high, v, Math.min(v + (spread?.[i] ?? 0), targets[t].high)); } });
  }
  if (!chosen.length || high < low) { low = 0; high = 1; }
  if (axis.shares) [low, high] = [0, 1];
  else if (z) [low, high] = [Math.min(-1, low), Math.max(2, high)];
  else [low, high] = [low < some?.low - (some?.high - some?.low) / 40 ? low : some?.low ?? 0, Math.min(Math.max(high * 1.05, some?.low + (some?.high - some?.low) / 8), Math.max(some?.high, high))];
  axis.step = [.05, .1, .2, .25, .5, 1, 2, 5, 10, 20, 50, 100].find(s => (high - low) / s <= 6) ?? (high - low) / 5;
  axis.low = Math.floor(low / axis.step + 1e-9) * axis.step; axis.high = Math.ceil(high / axis.step - 1e-9) * axis.step;
}
const scaled = (t, v) => axis.shares ? (v - targets[t].low) / (targets[t].high - targets[t].low) : v;
const py = v => tops.curves + CURVES - (Math.min(axis.high, Math.max(axis.low, v)) - axis.low) / (axis.high - axis.low) * CURVES;
function curves(pen) {
  measure();
  pen.textAlign = "right";
  for (let n = 0; axis.low + n * axis.step <= axis.high + 1e-9; n++) {
    const v = axis.low + n * axis.step, y = Math.round(py(v));
    pen.fillStyle = inks.rule; pen.fillRect(left, y, width - left - PAD, 1);
    pen.fillStyle = inks.soft; pen.fillText(String(Number(v.toFixed(2))).replace("-", "−").replace(".", words.point), left - 6, y);
  }
  pen.save(); pen.translate(12, tops.curves + CURVES / 2); pen.rotate(-Math.PI / 2); pen.textAlign = "center";
  pen.fillText(axis.shares ? words.share : state.kind === "scores" ? words.score : "z", 0, 0); pen.restore();
  pen.save(); pen.beginPath(); pen.rect(left, tops.curves - 4, width - left - PAD, CURVES + 8); pen.clip();
  const first = below(start, state.from - longest), last = below(start, state.to), many = last - first > (width - left) / BIN;
  for (const [t, way] of state.shown) {
    const colour = inks[`c${way % 6}`], dash = [[], [7, 5], [1, 5]][Math.floor(way / 6) % 3];
    if (many) for (const points of binned(t, first, last)) curve(pen, {points, grey: false}, colour, dash, 1);
    else for (const group of groups) for (const run of runs(group, t)) curve(pen, run, colour, dash, state.speaker >= 0 && group.s !== state.speaker ? .2 : 1);
  }
  pen.restore();
}
function binned(t, first, last) { // at a distance: mean, lowest and highest of the segments in each bin of pixels
  const bins = [], found = [];
  for (let i = first; i < last; i++) {
    const v = value(t, i), at = Math.floor(px((start[i] + end[i]) / 2) / BIN);
    if (!known(v) || flagged(i) || !heard(i)) continue;
    const y = scaled(t, v), bin = bins[at] ??= {x: (at + .5) * BIN, y: 0, n: 0, under: y, top: y};
    bin.y += (y - bin.y) / ++bin.n; bin.under = Math.min(bin.under, y); bin.top = Math.max(bin.top, y);
  }
  let before = null;
  for (const bin of Object.values(bins)) { if (before && bin.x - before.x <= 3 * BIN) found.at(-1).push(bin); else found.push([bin]); before = bin; }
  return found;
}
function runs(group, t) { // of points that a line joins
  const found = [], spread = state.band && state.kind === "scores" ? data.uncertainties?.[t] : null;
  const from = Math.max(0, below(group.x, state.from) - 2), to = Math.min(group.x.length, below(group.x, state.to) + 2);
  let parted = true;
  for (let k = from; k < to; k++) {
    const i = group.row[k], v = value(t, i), around = spread?.[i] ?? 0;
    if (!known(v)) { parted = true; continue; }
    if (parted || group.broken[k]) found.push({grey: flagged(i), points: []});
    found.at(-1).points.push({x: px(group.x[k]), y: scaled(t, v), under: scaled(t, v - around), top: scaled(t, v + around)});
    parted = false;
  }
  return found;
}
function curve(pen, {grey, points}, colour, dash, fade) {
  const dot = points.length === 1 ? 1.5 : 0; // px to either side of a point that stands alone
  if (!grey) {
    pen.beginPath(); pen.fillStyle = colour; pen.globalAlpha = .15 * fade;
    for (const p of points) pen.lineTo(p.x - dot, py(p.top));
    for (const p of points.slice().reverse()) pen.lineTo(p.x - dot, py(p.under));
    if (dot) { pen.lineTo(points[0].x + dot, py(points[0].under)); pen.lineTo(points[0].x + dot, py(points[0].top)); }
    pen.fill();
  }
  pen.beginPath(); pen.globalAlpha = (grey ? .8 : 1) * fade; pen.strokeStyle = grey ? inks.wave : colour;
  pen.setLineDash(grey ? [3, 4] : dash); pen.lineWidth = grey ? 1.4 : 2;
  for (const p of points) { pen.lineTo(p.x - dot, py(p.y)); if (dot) pen.lineTo(p.x + dot, py(p.y)); }
  pen.stroke(); pen.setLineDash([]); pen.globalAlpha = 1; pen.lineWidth = 1;
}
function cursor() { // what moves while it plays: the lines, the clock, values beside the legend
  const pen = fit(over), t = state.hover ?? state.at, i = segmentAt(t);
  pen.fillStyle = inks.accent;
  if (state.at >= state.from && state.at <= state.to) pen.fillRect(px(state.at) - 1, tops.wave - 4, 2, height - tops.wave);
  pen.fillRect(whole(state.at) - 1, tops.strip, 2, 34);
  if (state.hover !== null) { pen.fillStyle = inks.soft; pen.fillRect(px(t), tops.wave, 1, height - tops.wave - 4); }
  $("clock").textContent = fill(words.of, clock(state.at, 1), clock(total));
  for (const shown of $("legend").querySelectorAll("[data-target]")) {
    const spread = state.kind === "scores" && i >= 0 ? data.uncertainties?.[shown.dataset.target][i] : null;
    shown.textContent = i < 0 ? "–" : text(value(shown.dataset.target, i)) + (known(spread) ? ` ± ${figure(spread, 2)}` : "");
  }
  $("now").textContent = `${clock(t, 1)}: ${i < 0 ? words.nothing : told(i)}`;
  const now = segmentAt(state.at);
  stage.setAttribute("aria-valuenow", state.at.toFixed(1));
  stage.setAttribute("aria-valuetext", `${fill(words.of, clock(state.at), clock(total))}; ${now < 0 ? words.nothing : told(now)}`);
  if (now !== state.current) { state.current = now; mark(); draw(); stage.dispatchEvent(new CustomEvent("segment", {detail: now})); }
}
function told(i) {
  const who = speakers[speaker[i]];
  return `${who ? `${who}, ` : ""}${strong(i)}${doubts(i)}`;
}

// Playing
function play() { audio.play().catch(error => { if (error.name !== "AbortError") say(fill(words.does_not_play, error.message)); }); }
function seek(t) {
  state.at = Math.min(total, Math.max(0, t)); state.until = null;
  if (audio.readyState) audio.currentTime = state.at;
  if (state.at < state.from || state.at > state.to) look(state.at - span() * .1, state.at + span() * .9);
  cursor();
}
function playSegment(i) {
  if (span() > 60 * Math.max(1, end[i] - start[i])) look(start[i] - 15, start[i] + 45);
  seek(start[i]); state.until = end[i];
  say(fill(audio.readyState ? words.playing : words.at, clock(start[i]), clock(end[i]), told(i)));
  if (audio.readyState) play();
}
function toggle() { if (!audio.readyState) return; if (audio.paused) { state.until = null; play(); } else audio.pause(); }
function advance() {
  if (state.until !== null && audio.currentTime >= state.until) { audio.pause(); audio.currentTime = state.until; state.until = null; }
  state.at = Math.min(total, audio.currentTime);
  if (!dragged && state.at > state.to && !audio.paused) look(state.at, state.at + span()); else cursor();
}
function follow() { if (life.signal.aborted) return; advance(); if (!audio.paused) requestAnimationFrame(follow); }
audio.addEventListener("play", () => { $("play").textContent = words.pause; requestAnimationFrame(follow); }, life);
audio.addEventListener("pause", () => { $("play").textContent = words.play; }, life);
audio.addEventListener("timeupdate", advance, life); // also in a tab that nobody sees
audio.addEventListener("loadedmetadata", () => {
  const other = Math.abs(audio.duration - total) > Math.max(1, total * .01) && Number.isFinite(audio.duration);
  $("play").disabled = false; $("missing").hidden = !other; audio.currentTime = state.at;
  if (other) lacks(fill(words.another, clock(audio.duration), clock(total)));
}, life);
audio.addEventListener("error", () => lacks(data.sound ? fill(words.no_link, data.sound) : words.no_format), life);
function lacks(why) { $("missing").hidden = false; $("why").textContent = why; $("play").disabled = !audio.readyState; }
$("file").addEventListener("change", event => { if (event.target.files[0]) audio.src = URL.createObjectURL(event.target.files[0]); });
if (source) audio.src = source; else lacks(words.no_sound);

// Mouse, touch and keys
let dragged = null;
const place = event => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
stage.addEventListener("pointerdown", event => {
  const [x, y] = place(event), strip = y < tops.ticks;
  if (event.button) return;
  if (strip) { const middle = (x - left) / (width - left - PAD) * total; if (middle < state.from || middle > state.to) look(middle - span() / 2, middle + span() / 2); }
  stage.setPointerCapture(event.pointerId);
  dragged = {x, strip, from: state.from, moved: false};
});
stage.addEventListener("pointermove", event => {
  const [x, y] = place(event);
  state.hover = x >= left && x <= width - PAD && y >= tops.ticks ? time(x) : null;
  if (dragged) {
    dragged.moved ||= Math.abs(x - dragged.x) > 4;
    const by = (x - dragged.x) / (width - left - PAD), from = dragged.from + (dragged.strip ? by * total : -by * span());
    if (dragged.moved) look(from, from + span());
  }
  cursor();
});
stage.addEventListener("pointerup", event => { if (dragged && !dragged.moved) { const [x] = place(event); seek(dragged.strip ? (x - left) / (width - left - PAD) * total : time(x)); } dragged = null; });
stage.addEventListener("pointercancel", () => { dragged = null; });
stage.addEventListener("pointerleave", () => { state.hover = null; cursor(); });
stage.addEventListener("wheel", event => {
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  if (!event.ctrlKey && !event.metaKey && !sideways) return; // the page scrolls
  event.preventDefault();
  if (sideways && !event.ctrlKey) look(state.from + sideways / width * span(), state.to + sideways / width * span());
  else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 200))), time(Math.max(left, place(event)[0])));
}, {passive: false});
function beside(way) {
  if (way < 0) { for (let i = below(start, state.at - .05) - 1; i >= 0; i--) if (heard(i)) return i; } else for (let i = below(start, state.at + .05); i < count; i++) if (heard(i)) return i;
  return -1;
}
document.addEventListener("keydown", event => {
  const {key} = event, at = event.target, move = event.shiftKey ? 30 : 5;
  if (event.ctrlKey || event.metaKey || event.altKey || at.matches("input, select, textarea")) return;
  const go = way => { const i = beside(way); if (i >= 0) { seek(start[i]); say(`${clock(start[i])}: ${told(i)}`); } };
  const acts = {ArrowLeft: () => seek(state.at - move), ArrowRight: () => seek(state.at + move)};
  if (!at.matches("button, summary")) acts[" "] = toggle;
  if (at === stage) Object.assign(acts, {"+": () => zoom(.5), "=": () => zoom(.5), "-": () => zoom(2), 0: () => look(0, total), n: () => go(1), p: () => go(-1),
    Home: () => seek(0), End: () => seek(total), PageUp: () => seek(state.at - 30), PageDown: () => seek(state.at + 30), ArrowUp: () => seek(state.at + move), ArrowDown: () => seek(state.at - move)});
  if (acts[key]) { event.preventDefault(); acts[key](); }
}, life);

// Curves, legend and peaks
function show(t, on) {
  const ways = new Set(state.shown.values()), free = [...Array(WAYS).keys()].find(way => !ways.has(way));
  if (on && free === undefined) say(fill(words.no_more, WAYS));
  else { if (on) state.shown.set(t, free); else state.shown.delete(t); say(fill(on ? words.is_shown : words.is_hidden, targets[t].name)); }
  legend();
}
function legend() {
  $("legend").replaceChildren(...[...state.shown].map(([t, way]) => {
    const item = make("li"), value = make("span"), away = make("button", "×", {type: "button", title: fill(words.hide, targets[t].name), onclick: () => show(t, false)});
    value.dataset.target = t; away.setAttribute("aria-label", fill(words.hide, targets[t].name));
    item.append(make("span", "", {className: `swatch s${way % 6} d${Math.floor(way / 6) % 3}`}), targets[t].name, away, value);
    return item;
  }));
  for (const box of $("emotions").querySelectorAll("input")) box.checked = state.shown.has(Number(box.value));
  draw();
}
for (const [t, {name}] of targets.entries()) {
  const label = make("label"), box = make("input", "", {type: "checkbox", value: t});
  label.append(box, make("span", name)); $("emotions").append(label);
  $("focus").append(make("option", name, {value: t}));
}
const labels = [...$("emotions").children];
$("emotions").addEventListener("change", event => show(Number(event.target.value), event.target.checked));
$("search").addEventListener("input", event => {
  const wanted = event.target.value.trim().toLowerCase();
  labels.forEach((label, t) => { label.hidden = !`${targets[t].name} ${targets[t].id}`.toLowerCase().includes(wanted); });
  say(fill(words.found, labels.filter(label => !label.hidden).length));
});
$("search").addEventListener("keydown", event => { if (event.key === "Enter") labels.find(label => !label.hidden)?.querySelector("input").click(); });
function peaks() { // highest first; none beside a higher one
  const t = state.focus, best = [];
  for (const i of [...start.keys()].filter(i => heard(i) && !flagged(i) && known(value(t, i))).sort((a, b) => value(t, b) - value(t, a))) {
    if (best.length === PEAKS) break;
    if (!best.some(k => speaker[k] === speaker[i] && start[k] < end[i] && start[i] < end[k])) best.push(i);
  }
  $("peaks").replaceChildren(...best.map(i => {
    const item = make("li"), button = make("button", clock(start[i]), {type: "button", onclick: () => playSegment(i)});
    button.setAttribute("aria-label", fill(words.play_from, clock(start[i])));
    item.append(button, [` ${text(value(t, i))}`, speakers[speaker[i]]].filter(Boolean).join(" · "));
    return item;
  }));
}

// The table
const texts = data.text.map((words, i) => [words, data.caption[i]].filter(Boolean).join(" · "));
const doubts = i => flagged(i) ? ` (${flags(i)})` : "";
const flags = i => data.flags[i].map(flag => words.flags[flag] ?? flag).join(", ");
const strong = i => strongest(i).map(t => `${targets[t].name} ${text(value(t, i))}`).join(", ");
const columns = { // key of the column's head -> what sorts it, what its cells say
  start: [i => start[i]],
  length: [i => end[i] - start[i], i => `${figure(end[i] - start[i], 1)} s`],
  who: [i => speakers[speaker[i]], i => speakers[speaker[i]]],
  focus: [i => value(state.focus, i), i => text(value(state.focus, i))],
  top: [i => strength(strongest(i, 1)[0] ?? 0, i), strong],
  text: [i => texts[i], i => texts[i]],
  far: [i => data.unfamiliarity[i], i => known(data.unfamiliarity[i]) ? figure(data.unfamiliarity[i], 2) : "–"],
  flags: [flags, flags],
};
const wanted = {who: speakers.some(Boolean), text: texts.some(Boolean), far: data.unfamiliarity.some(known), flags: data.flags.some(some => some.length)};
for (const head of [...$("table").tHead.rows[0].cells]) if (wanted[head.dataset.key] === false) head.remove();
const heads = [...$("table").tHead.rows[0].cells], collator = new Intl.Collator();
for (const head of heads) head.firstChild.addEventListener("click", () => {
  const {key} = head.dataset;
  state.falling = state.key === key ? !state.falling : key === "focus" || key === "top"; state.key = key; sort();
  say(fill(state.falling ? words.sorted_falling : words.sorted_rising, head.textContent));
});
let order = [];
function sort() {
  const [by] = columns[state.key], way = state.falling ? -1 : 1, empty = v => !known(v) || v === "";
  const keyed = [...start.keys()].filter(heard).map(i => [i, by(i)]);
  keyed.sort(([i, a], [j, b]) => empty(a) - empty(b) || (empty(a) ? i - j : way * (typeof a === "string" ? collator.compare(a, b) : a - b)) || i - j);
  order = keyed.map(([i]) => i); state.page = 0;
  table();
}
function table() {
  for (const head of heads) {
    if (head.dataset.key === "focus") head.firstChild.textContent = targets[state.focus]?.name;
    if (head.dataset.key === state.key) head.setAttribute("aria-sort", state.falling ? "descending" : "ascending"); else head.removeAttribute("aria-sort");
  }
  const first = state.page * ROWS, rows = order.slice(first, first + ROWS);
  $("table").tBodies[0].replaceChildren(...rows.map(i => {
    const row = make("tr", "", {className: flagged(i) ? "flagged" : ""}), play = make("button", clock(start[i], 1), {type: "button"}), cell = make("td");
    play.setAttribute("aria-label", fill(words.play_from_to, clock(start[i], 1), clock(end[i], 1)));
    row.dataset.segment = i; row.addEventListener("click", () => { if (!String(getSelection())) playSegment(i); });
    cell.append(play);
    row.append(cell, ...heads.slice(1).map(head => make("td", columns[head.dataset.key][1](i), {className: head.dataset.key})));
    return row;
  }));
  $("rows").textContent = order.length ? fill(words.rows, first + 1, first + rows.length, order.length) : words.none;
  $("before").disabled = !first; $("after").disabled = first + ROWS >= order.length;
  mark();
}
function mark() {
  for (const row of $("table").tBodies[0].rows) {
    const on = Number(row.dataset.segment) === state.current;
    row.classList.toggle("chosen", on);
    if (on) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
  }
}

// Controls
for (const id of ["speaker", "focus", "kind"]) $(id).addEventListener("change", event => {
  state[id] = id === "kind" ? event.target.value : Number(event.target.value); peaks(); sort(); draw();
});
speakers.forEach((name, s) => $("speaker").append(make("option", name || words.nobody, {value: s})));
const there = {several: speakers.length > 1, standardised: data.standardised, uncertainties: data.uncertainties};
for (const part of document.querySelectorAll("[data-if]")) part.hidden = !there[part.dataset.if];
$("legend").classList.toggle("wide", Boolean(data.uncertainties));
stage.setAttribute("aria-valuemax", total);
$("focus").value = state.focus;
const clicks = {play: toggle, in: () => zoom(.5), out: () => zoom(2), all: () => look(0, total), back: () => look(state.from - span() / 2, state.to - span() / 2),
  on: () => look(state.from + span() / 2, state.to + span() / 2), before: () => { state.page--; table(); }, after: () => { state.page++; table(); }};
for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
$("band").addEventListener("change", event => { state.band = event.target.checked; draw(); });
$("speed").addEventListener("change", event => { audio.playbackRate = Number(event.target.value); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, life);
const sizes = new ResizeObserver(draw);
sizes.observe(stage);
legend(); peaks(); sort();
function close() { life.abort(); sizes.disconnect(); audio.pause(); audio.removeAttribute("src"); }
return {state, targets, labels, total, look, paint, show, strength, strongest, figure, clock, told, playSegment, seek, say, flagged, doubts, close};
}
