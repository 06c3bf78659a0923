// Reads the worklist anew from time to time, unless somebody types, selects or looks at another tab.
"use strict";
const table = document.querySelector("table[data-refresh]");
if (table) {
  const refresh = async () => {
    const busy = document.hidden || document.activeElement?.matches("input, select") || String(getSelection());
    if (busy) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", headers: { "X-Refresh": "1" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const selector of [".figures", "table[data-refresh] tbody"]) {
        const fresh = page.querySelector(selector), old = document.querySelector(selector);
        if (fresh && old && fresh.innerHTML !== old.innerHTML) old.replaceWith(document.adoptNode(fresh));
      }
    } catch { /* the node is away: the next look may find it */ }
  };
  setInterval(refresh, 1000 * Number(table.dataset.refresh));
}
