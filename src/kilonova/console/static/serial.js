import { Terminal } from "./vendor/xterm.mjs";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { address, lost, say } from "./common.js";

// A row is as high as its font says: at 14 px many a browser's monospace hangs its underscores below that, unseen.
const terminal = new Terminal({ cursorBlink: true, fontSize: 15, scrollback: 5000 });
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(document.getElementById("console"));
fit.fit();
addEventListener("resize", () => fit.fit());

const socket = new WebSocket(address(), "binary");
socket.binaryType = "arraybuffer";
const bytes = new TextEncoder();
const send = (data) => { if (socket.readyState === WebSocket.OPEN) socket.send(data); };
terminal.onData((text) => send(bytes.encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
socket.addEventListener("open", () => { say("connected; Enter asks for a prompt", "on"); terminal.focus(); });
socket.addEventListener("message", (event) => terminal.write(new Uint8Array(event.data)));
socket.addEventListener("close", (event) => lost(event.reason));
