"use strict";
// Samples of the microphone as the server takes them, 16 bits, 1280 at a time; channels are averaged.
registerProcessor("capture", class extends AudioWorkletProcessor {
  held = new Int16Array(1280);
  count = 0;
  process([channels]) {
    for (let n = 0; n < (channels[0]?.length ?? 0); n++) {
      let sample = 0;
      for (const channel of channels) sample += channel[n] / channels.length;
      this.held[this.count++] = Math.round(32767 * Math.max(-1, Math.min(1, sample)));
      if (this.count === this.held.length) {
        this.port.postMessage(this.held, [this.held.buffer]);
        this.held = new Int16Array(1280); this.count = 0;
      }
    }
    return true;
  }
});
