// Sorting and searching of tables; opens folded parts for printing. No dependency, no network.
"use strict";
(() => {
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const value = (cell) => (cell.dataset.v === undefined ? NaN : Number(cell.dataset.v.replace("inf", "Infinity")));

  function sortBy(table, column, descending) {
    const body = table.tBodies[0], heads = table.tHead.rows[0].cells, numeric = heads[column].classList.contains("n");
    const rows = Array.from(body.rows, (row, index) => ({ row, index, cell: row.cells[column] }));
    const sign = descending ? -1 : 1;
    rows.sort((a, b) => {
      if (!numeric) return sign * collator.compare(a.cell.textContent, b.cell.textContent) || a.index - b.index;
      const x = value(a.cell), y = value(b.cell);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.index - b.index;
      return (x === y ? 0 : sign * (x < y ? -1 : 1)) || a.index - b.index;
    });
    body.append(...rows.map((item) => item.row));
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("thead button");
    if (!button) return;
    const head = button.closest("th");
    sortBy(head.closest("table"), head.cellIndex, head.getAttribute("aria-sort") === "ascending");
  });

  for (const field of document.querySelectorAll("input[data-table]")) {
    const table = document.getElementById(field.dataset.table);
    const count = document.querySelector(`[data-count="${field.dataset.table}"]`);
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      const all = table.tBodies[0].rows.length;
      count.textContent = wanted.length ? `${shown} of ${all} rows` : `${all} rows`;
    });
  }

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
