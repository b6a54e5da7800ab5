"""The report in headless Chromium: browser_test.py <write_sample_report>. Exit code 77 (skipped) without Chromium.

Widths 1280 and 400, light and dark: no console message, no request, nothing sticks out, text is readable, figures refer
to what exists, tables sort and search by keyboard, the data behind the links is there, and it prints.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from browser import Browser, find_chromium

WRITER = None
A4_TEXT_PX = 718  # width of the text on A4 paper with a browser's usual margins
SMALLEST_TEXT_PX = 8.5  # of figure text at 400 pixels

CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor, parts = parse(colour);
      if (parts.length < 4 || parts[3] > 0) return parts;
    }
    return [255, 255, 255];
  };
  const worst = [];
  const texts = "h1,h2,h3,h4,p,li,a,td,tbody th,figcaption,summary,dt,dd,caption,thead button,output";
  for (const element of document.querySelectorAll(texts))
    if (element.textContent.trim() && element.checkVisibility())
      worst.push([ratio(parse(getComputedStyle(element).color), background(element)), element.outerHTML.slice(0, 120)]);
  // Text on the coloured cells of a heat map has its own colours; all other figure text uses the theme's.
  for (const element of document.querySelectorAll("figure svg g[fill^='var(']:has(> text)"))
    if (element.checkVisibility())
      worst.push([ratio(parse(getComputedStyle(element).fill), background(element)), element.outerHTML.slice(0, 120)]);
  worst.sort((a, b) => a[0] - b[0]);
  return [worst.length, ...worst[0]];
})()
"""


class ReportInBrowser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="borel-report-")
        subprocess.run([WRITER, cls.folder.name], check=True)
        cls.url = (pathlib.Path(cls.folder.name) / "report.html").as_uri()
        cls.browser = Browser(find_chromium())

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.folder.cleanup()

    def open(self, width, scheme):
        self.browser.set_width(width)
        self.browser.set_scheme(scheme)
        self.browser.open(self.url)

    def layouts(self):
        for width in (1280, 400):
            for scheme in ("light", "dark"):
                self.open(width, scheme)
                yield width, scheme

    def test_no_console_message_no_dialog_no_request(self):
        for _ in self.layouts():
            self.browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            events = self.browser.events
            complaints = [e for e in events if e["method"] in
                          ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")]
            self.assertEqual(complaints, [])
            requested = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
            self.assertIn(self.url, requested)
            self.assertEqual([u for u in requested if u != self.url and not u.startswith("data:")], [])

    def test_the_policy_forbids_requests(self):
        self.open(1280, "light")
        blocked = self.browser.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')")
        self.assertEqual(blocked, "blocked")
        self.assertTrue(any("Content Security Policy" in e["params"]["entry"]["text"] for e in self.browser.events
                            if e["method"] == "Log.entryAdded"))

    def test_nothing_sticks_out_of_the_page(self):
        for width, _ in self.layouts():
            self.browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), width)
            outside = self.browser.run(
                "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, .draw, pre, .skip') && "
                f"e.checkVisibility() && e.getBoundingClientRect().right > {width} + 0.5).map((e) => e.outerHTML.slice(0, 99))")
            self.assertEqual(outside, [])

    def test_text_has_contrast(self):
        for _ in self.layouts():
            n_texts, ratio, where = self.browser.run(CONTRAST)
            self.assertGreater(n_texts, 300)
            self.assertGreaterEqual(ratio, 4.5, where)

    def test_light_and_dark_differ(self):
        seen = set()
        for scheme in ("light", "dark"):
            self.open(1280, scheme)
            seen.add(self.browser.run("getComputedStyle(document.body).backgroundColor"))
        self.assertEqual(len(seen), 2)

    def test_figure_text_is_large_enough_and_inside(self):
        for width, _ in self.layouts():
            sizes = self.browser.run(
                "[...document.querySelectorAll('figure svg')].filter((s) => s.checkVisibility()).map((s) => "
                "13 * s.getBoundingClientRect().width / s.viewBox.baseVal.width)")
            self.assertGreater(len(sizes), 20)
            self.assertGreaterEqual(min(sizes), SMALLEST_TEXT_PX)
        cut = self.browser.run(
            "[...document.querySelectorAll('figure svg text')].filter((t) => t.checkVisibility() && t.textContent.trim()).filter((t) => "
            "{ const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();"
            "  return a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2; })"
            ".map((t) => t.ownerSVGElement.closest('figure').id + ': ' + t.textContent)")
        self.assertEqual(cut, [])

    def test_figures_are_labelled_and_refer_to_what_exists(self):
        self.open(1280, "light")
        self.assertEqual(self.browser.run(
            "[...document.querySelectorAll('figure svg')].filter((s) => s.getAttribute('role') !== 'img' || "
            "s.getAttribute('aria-label').length < 20).length"), 0)
        self.assertEqual(self.browser.run(
            "(() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size; })()"), 0)
        self.assertEqual(self.browser.run(
            "[...document.querySelectorAll('svg use')].filter((u) => !document.getElementById("
            "(u.getAttribute('href') || u.getAttribute('xlink:href')).slice(1))).length"), 0)
        self.assertEqual(self.browser.run(
            "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.getElementById(a.hash.slice(1))).length"), 0)

    def test_every_figure_has_its_data_beside_it(self):
        self.open(1280, "light")
        csv = self.browser.run(
            "[...document.querySelectorAll('figure')].map((f) => decodeURIComponent(f.querySelector('a.csv').href.split(',').slice(1).join(',')))")
        self.assertGreater(len(csv), 30)
        for text in csv:
            lines = text.strip().split("\n")
            self.assertGreaterEqual(len(lines), 2, text[:200])
            self.assertRegex(lines[0], r"^[a-z0-9_]+(,[a-z0-9_]+)+$")
        for link in self.browser.run(
                "[...document.querySelectorAll('.files a:not(.csv)')].map((a) => a.getAttribute('href'))"):
            self.assertTrue(os.path.exists(os.path.join(self.folder.name, link)), link)

    def test_headings_go_down_by_one(self):
        self.open(1280, "light")
        levels = self.browser.run("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
        self.assertEqual(levels[0], 1)
        self.assertEqual(levels.count(1), 1)
        self.assertTrue(all(b - a <= 1 for a, b in zip(levels, levels[1:])), levels)

    def test_keyboard_reaches_headers_and_sorts(self):
        self.open(1280, "light")
        for _ in range(60):
            self.browser.press("Tab", 9)
            if self.browser.run("document.activeElement.closest('thead') !== null"):
                break
        self.assertEqual(self.browser.run("document.activeElement.tagName"), "BUTTON")
        self.assertNotEqual(self.browser.run("getComputedStyle(document.activeElement).outlineStyle"), "none")
        column = "[...document.activeElement.closest('table').tBodies[0].rows].map((r) => r.cells[document.activeElement.closest('th').cellIndex].textContent)"
        self.browser.press("Enter", 13, "\r")
        self.assertEqual(self.browser.run("document.activeElement.closest('th').getAttribute('aria-sort')"), "ascending")
        ascending = self.browser.run(column)
        self.browser.press("Enter", 13, "\r")
        self.assertEqual(self.browser.run("document.activeElement.closest('th').getAttribute('aria-sort')"), "descending")
        self.assertEqual(sorted(ascending), ascending)
        self.assertEqual(sorted(ascending, reverse=True), self.browser.run(column))

    def test_numbers_sort_by_value_with_gaps_last(self):
        self.open(1280, "light")
        table = "document.getElementById('comparison-2-values-table')"
        self.browser.run(f"{table}.querySelectorAll('thead button')[4].click()")
        shown = self.browser.run(f"[...{table}.tBodies[0].rows].map((r) => r.cells[4].dataset.v ?? null)")
        numbers = [float(v) for v in shown if v is not None]
        self.assertGreater(len(numbers), 20)
        self.assertEqual(numbers, sorted(numbers))
        self.assertIsNone(shown[-1])

    def test_search_narrows_a_table(self):
        self.open(1280, "light")
        field = "document.querySelector('input[data-table=\"comparison-2-values-table\"]')"
        rows = "[...document.getElementById('comparison-2-values-table').tBodies[0].rows].filter((r) => !r.hidden).length"
        everything = self.browser.run(rows)
        self.browser.run(f"{field}.value = 'KDE galaxies'; {field}.dispatchEvent(new Event('input'))")
        self.assertEqual(self.browser.run(rows), 2)
        self.assertEqual(self.browser.run("document.querySelector('[data-count=\"comparison-2-values-table\"]').textContent"),
                         f"2 of {everything} rows")
        self.browser.run(f"{field}.value = ''; {field}.dispatchEvent(new Event('input'))")
        self.assertEqual(self.browser.run(rows), everything)

    def test_without_script_everything_can_be_read(self):
        self.browser.send("Emulation.setScriptExecutionDisabled", value=True)
        try:
            self.open(400, "light")
        finally:
            self.browser.send("Emulation.setScriptExecutionDisabled", value=False)
        self.assertGreater(self.browser.run("document.body.innerText.length"), 3000)

    def test_it_prints_in_full_and_light(self):
        self.open(1280, "dark")
        pdf = self.browser.print_pdf()
        self.assertTrue(pdf.startswith(b"%PDF"))
        self.assertGreater(pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page "), 3)
        self.browser.set_scheme("dark", media="print")
        self.assertEqual(self.browser.run("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(self.browser.run("getComputedStyle(document.body).color"), "rgb(0, 0, 0)")
        self.assertEqual(self.browser.run("[...document.querySelectorAll('details')].filter((d) => !d.open).length"), 0)
        self.browser.set_width(A4_TEXT_PX)
        cut = self.browser.run(
            "[...document.querySelectorAll('body *')].filter((e) => !e.closest('svg') && e.checkVisibility() && "
            f"e.getBoundingClientRect().right > {A4_TEXT_PX} + 1).map((e) => e.outerHTML.slice(0, 99))")
        self.assertEqual(cut, [])


if __name__ == "__main__":
    if find_chromium() is None:
        print("no Chromium found; install it (Debian: apt install chromium) to run this test")
        sys.exit(77)
    WRITER = sys.argv.pop(1)
    unittest.main(verbosity=2)
