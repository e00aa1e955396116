import RFB from "./vendor/novnc/core/rfb.js";
import { address, lost, say } from "./common.js";

const socket = new WebSocket(address(), "binary");
let reason = "";
socket.addEventListener("close", (event) => { reason = event.reason; });

const rfb = new RFB(document.getElementById("console"), socket, { shared: true });
rfb.scaleViewport = true;
rfb.background = "#16181d";
rfb.addEventListener("connect", () => { say("connected", "on"); rfb.focus(); });
rfb.addEventListener("disconnect", () => lost(reason));
rfb.addEventListener("securityfailure", (event) => lost(event.detail.reason));

const fit = document.getElementById("fit");
fit.addEventListener("click", () => {
  rfb.scaleViewport = !rfb.scaleViewport;
  fit.setAttribute("aria-pressed", String(rfb.scaleViewport));
  rfb.focus();
});
document.getElementById("ctrl-alt-del").addEventListener("click", () => { rfb.sendCtrlAltDel(); rfb.focus(); });
