// The websocket has the page's own address, by its own scheme: so it works behind a proxy, too.
export function address() {
  const page = new URL(location.href);
  const named = new URL(page.searchParams.get("path") || page.href, page);
  const token = page.searchParams.get("token") || named.searchParams.get("token");
  const url = new URL(page.pathname, page);
  url.protocol = page.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("token", token);
  return url.href;
}

export function say(text, kind = "") {
  const status = document.getElementById("status");
  status.textContent = text;
  status.className = kind;
}

export function lost(reason) {
  document.querySelector(".state").hidden = true; // it was that of the moment when the page was asked for
  say(`${reason || "The connection has ended."} Reconnect works for as long as the server runs and this address lasts.`, "off");
}

// The page itself says so if its address lasts no more.
document.getElementById("reconnect").addEventListener("click", () => location.reload());
