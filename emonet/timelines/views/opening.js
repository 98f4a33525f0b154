// A page that holds its timeline, and perhaps its sound, opens them.
const held = JSON.parse($("timeline").textContent);
const sound = $("sound") && URL.createObjectURL(new Blob([Uint8Array.from(atob($("sound").textContent), c => c.charCodeAt(0))], {type: "audio/mpeg"}));
const view = timelineView(held, held.words, sound ?? held.sound);
