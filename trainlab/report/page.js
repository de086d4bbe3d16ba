// Tables sort by a click on a heading and filter by words; the page's address keeps both, so that a
// view can be sent on: #sort0=2&filter0=adam.
"use strict";
const state = new URLSearchParams(location.hash.slice(1));

function keep(key, value) {
  if (value) state.set(key, value); else state.delete(key);
  const hash = state.toString();
  history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
}

// Numbers before texts, whichever way they are sorted: "–" is no number.
function compare(a, b, column, way) {
  const [x, y] = [a, b].map(row => row.cells[column]);
  const [u, v] = [x, y].map(cell => cell.dataset.value);
  if (u !== undefined && v !== undefined) return way * (Number(u) - Number(v));
  if (u !== undefined || v !== undefined) return u !== undefined ? -1 : 1;
  return way * x.textContent.localeCompare(y.textContent, undefined, { numeric: true });
}

document.querySelectorAll("table.sortable").forEach((table, number) => {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];

  function sort(column, descending) {
    headings.forEach((heading, i) => {
      if (i === column) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    const ordered = [...rows].sort((a, b) => compare(a, b, column, descending ? -1 : 1));
    body.append(...ordered);
  }

  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      sort(column, descending);
      keep("sort" + number, (descending ? "-" : "") + (column + 1));
    });
  });
  const sorted = Number(state.get("sort" + number));
  if (sorted && Math.abs(sorted) <= headings.length) sort(Math.abs(sorted) - 1, sorted < 0);

  const before = table.parentElement.previousElementSibling;
  const input = before && before.querySelector("input.filter");
  if (!input) return;
  const count = before.querySelector(".count");

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const cells = [...row.cells].map(cell => cell.textContent.toLowerCase());
      row.hidden = !words.every(word => cells.some(cell => cell.includes(word)));
      shown += !row.hidden;
    }
    count.textContent = words.length ? shown + " of " + rows.length : "";
    keep("filter" + number, input.value);
  }

  input.value = state.get("filter" + number) || "";
  input.addEventListener("input", filter);
  if (input.value) {
    filter();
    const details = table.closest("details");
    if (details) details.open = true;
  }
});
