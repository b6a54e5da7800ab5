#include "report/page.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "report/html.hpp"
#include "report/number_text.hpp"
#include "report/page_assets.hpp"

namespace borel {
namespace {

constexpr std::size_t k_max_listed_cells = 2000;

std::string methods_text(const CellRecord& cell) {
  std::string text;
  for (std::size_t role = 0; role < cell.methods.size(); ++role)
    text += (role == 0 ? "" : " + ") + cell.methods[role].label;
  return text;
}

/// One row for repetitions that ended in the same way for the same reason.
std::string failures_html(const RunResults& results) {
  struct Ending {
    const CellRecord* first;
    std::vector<const CellRecord*> cells;
  };
  std::vector<Ending> endings;
  std::size_t n_cells = 0;
  for (const CellRecord& cell : results.cells) {
    if (cell.result.outcome == CellOutcome::ok) continue;
    ++n_cells;
    const auto same = [&](const Ending& ending) {
      const CellRecord& other = *ending.first;
      return std::tie(other.protocol, other.options, other.dataset, other.result.outcome,
                      other.result.reason) == std::tie(cell.protocol, cell.options, cell.dataset,
                                                       cell.result.outcome, cell.result.reason) &&
             methods_text(other) == methods_text(cell);
    };
    // Cells are sorted: those that belong together follow each other.
    if (endings.empty() || !same(endings.back())) endings.push_back({&cell, {}});
    endings.back().cells.push_back(&cell);
  }
  std::string html =
      "<section id=\"failures-section\" aria-labelledby=\"failures-title\">\n<h2 id=\"failures-title\">";
  if (n_cells == 0)
    return html +
           "All cells gave a result</h2>\n<p>Nothing failed, was skipped, timed out or "
           "crashed.</p></section>\n";

  HtmlTable table("failures", "What gave no result and why; such cells share the worst rank",
                  {{"Method", "", false},
                   {"Dataset", "", false},
                   {"Protocol", "", false},
                   {"Outcome", "", false},
                   {"Reason", "", false},
                   {"Repetitions", "", false},
                   {"Cells", "the start of the id, for `borel why`", false}});
  for (const Ending& ending : endings) {
    std::string repetitions, ids, all_ids;
    for (const CellRecord* cell : ending.cells) {
      repetitions.append(repetitions.empty() ? "" : ", ").append(std::to_string(cell->repetition));
      ids.append(ids.empty() ? "" : " ").append(cell->cell_id.substr(0, 8));
      all_ids.append(all_ids.empty() ? "" : " ").append(cell->cell_id);
    }
    const std::string_view outcome = to_string(ending.first->result.outcome);
    HtmlTable::Cell state = HtmlTable::text(outcome), reason = HtmlTable::text(ending.first->result.reason),
                    id = HtmlTable::text(ids);
    state.style_class = outcome;
    reason.style_class = "long";
    id.html = "<code>" + id.html + "</code>";
    id.csv = all_ids;
    table.add_row({HtmlTable::text(methods_text(*ending.first)), HtmlTable::text(ending.first->dataset),
                   HtmlTable::text(ending.first->protocol), state, reason, HtmlTable::text(repetitions), id});
  }
  return html + counted(n_cells, "cell") + " gave no result</h2>\n" + table.html() + "</section>\n";
}

/// All numbers of the run in long form, one line per cell and metric or raw timing.
std::string all_numbers_csv(const RunResults& results) {
  std::string csv = "protocol,options,dataset,methods,repetition,outcome,kind,name,unit,value,cell_id\n";
  for (const CellRecord& cell : results.cells) {
    const std::string head = fmt::format(
        "{},{},{},{},{},{}", csv_field(cell.protocol), csv_field(cell.options), csv_field(cell.dataset),
        csv_field(methods_text(cell)), cell.repetition, to_string(cell.result.outcome));
    for (const Metric& metric : cell.result.metrics)
      csv += fmt::format("{},metric,{},{},{},{}\n", head, csv_field(metric.name), csv_field(metric.unit),
                         exact_text(metric.value), cell.cell_id);
    for (const Timing& timing : cell.result.timings)
      for (double seconds : timing.seconds)
        csv += fmt::format("{},timing,{},s,{},{}\n", head, csv_field(timing.name), exact_text(seconds),
                           cell.cell_id);
    if (cell.result.metrics.empty() && cell.result.timings.empty())
      csv += fmt::format("{},,,,,{}\n", head, cell.cell_id);
  }
  return csv;
}

std::string cells_html(const RunResults& results) {
  std::string html =
      "<section id=\"cells-section\" aria-labelledby=\"cells-title\">\n<h2 id=\"cells-title\">Every cell of "
      "the run</h2>\n<p>" +
      csv_link(all_numbers_csv(results), "all-numbers.csv", "All metrics and raw timings (CSV)") + "</p>\n";
  if (results.cells.size() > k_max_listed_cells)
    return html +
           fmt::format("<p>{} cells are too many for a table here; they are in the CSV.</p></section>\n",
                       results.cells.size());
  HtmlTable table("cells", "Cells with the time their quality part took (in parallel, hence not a benchmark)",
                  {{"Method", "", false},
                   {"Dataset", "", false},
                   {"Protocol", "", false},
                   {"Repetition", "", true},
                   {"Outcome", "", false},
                   {"Wall time", "seconds of the quality phase, measured while other cells ran", true},
                   {"Seed", "", false},
                   {"Cell", "for `borel why`", false}});
  for (const CellRecord& cell : results.cells) {
    HtmlTable::Cell state = HtmlTable::text(to_string(cell.result.outcome)),
                    id = HtmlTable::text(cell.cell_id.substr(0, 12));
    state.style_class = to_string(cell.result.outcome);
    id.html = "<code>" + id.html + "</code>";
    id.csv = cell.cell_id;
    table.add_row({HtmlTable::text(methods_text(cell)), HtmlTable::text(cell.dataset),
                   HtmlTable::text(cell.protocol),
                   HtmlTable::number(static_cast<double>(cell.repetition), std::to_string(cell.repetition)),
                   state, HtmlTable::number(cell.result.wall_s, seconds_text(cell.result.wall_s)),
                   HtmlTable::text(fmt::format("{:016x}", cell.seed)), id});
  }
  return html + "<details><summary>" + counted(table.n_rows(), "cell") + "</summary>\n" + table.html() +
         "</details></section>\n";
}

HtmlTable::Cell digest_cell(const std::string& digest) {
  HtmlTable::Cell cell = HtmlTable::text(digest.substr(0, 12));
  cell.html = fmt::format("<code title=\"{}\">{}</code>", escape_html(digest), cell.html);
  cell.csv = digest;
  return cell;
}

std::string provenance_html(const RunResults& results) {
  std::string html =
      "<section id=\"provenance\" aria-labelledby=\"provenance-title\">\n<h2 id=\"provenance-title\">Where "
      "these numbers come from</h2>\n<dl>";
  const auto fact = [&](std::string_view name, std::string_view value) {
    if (!value.empty())
      html += "<dt>" + escape_html(words(name)) + "</dt><dd>" + escape_html(value) + "</dd>";
  };
  for (const auto& [name, value] : results.provenance) fact(name, value);
  fact("study file", results.study_file);
  fact("study digest", results.study_digest);
  html += "</dl>\n";

  HtmlTable methods("methods",
                    "Methods with all parameters that were used, and the plugin file they came from",
                    {{"Method", "", false},
                     {"Family", "", false},
                     {"Used parameters", "", false},
                     {"Plugin", "", false},
                     {"SHA-256", "of the plugin file", false}});
  HtmlTable datasets("datasets", "Datasets and the digest of their content",
                     {{"Dataset", "", false}, {"Digest", "", false}, {"Cells", "", true}});
  std::map<std::pair<std::string, std::string>, const MethodUse*> uses;
  std::map<std::pair<std::string, std::string>, std::int64_t> digests;
  for (const CellRecord& cell : results.cells) {
    for (const MethodUse& use : cell.methods) uses.emplace(std::pair(use.family, use.spec), &use);
    ++digests[{cell.dataset, cell.dataset_digest}];
  }
  for (const auto& [key, use] : uses) {
    HtmlTable::Cell spec = HtmlTable::text(use->spec);
    spec.html = "<code>" + spec.html + "</code>";
    spec.style_class = "long";
    methods.add_row({HtmlTable::text(use->label), HtmlTable::text(use->family), spec,
                     HtmlTable::text(std::filesystem::path(use->plugin_file).filename().string()),
                     digest_cell(use->plugin_sha256)});
  }
  for (const auto& [key, n_cells] : digests)
    datasets.add_row({HtmlTable::text(key.first), digest_cell(key.second),
                      HtmlTable::number(static_cast<double>(n_cells), std::to_string(n_cells))});
  html += methods.html() + datasets.html();
  if (!results.study_text.empty())
    html += "<details><summary>The study file</summary><pre tabindex=\"0\">" +
            escape_html(results.study_text) + "</pre></details>\n";
  return html + "</section>\n";
}

std::string glance_html(const std::vector<GroupSection>& sections) {
  HtmlTable table("glance", "First place by each headline metric",
                  {{"Comparison", "", false},
                   {"Metric", "", false},
                   {"First", "", false},
                   {"Average rank", "1 is best", true},
                   {"Blocks", "what the ranking rests on", true},
                   {"Friedman p", "2000 shuffles within blocks; below 0.05 methods differ", true}});
  for (const GroupSection& section : sections)
    for (const GroupSection::ByMetric& by : section.headlines) {
      if (by.comparison.table.n_blocks == 0 || section.group.entries.size() < 2) continue;
      const Standing& first = by.comparison.standings.front();
      HtmlTable::Cell link = HtmlTable::text(section.group.protocol);
      link.html = fmt::format("<a href=\"#{}\">{}</a>", section.anchor, link.html);
      const bool tie = by.comparison.standings[1].average_rank == first.average_rank;
      table.add_row({link, HtmlTable::text(axis_text(by.comparison.metric.name, by.comparison.metric.unit)),
                     HtmlTable::text(tie ? "tie" : section.group.entries[first.entry]),
                     HtmlTable::number(first.average_rank, number_text(first.average_rank, 3)),
                     HtmlTable::number(static_cast<double>(by.comparison.table.n_blocks),
                                       std::to_string(by.comparison.table.n_blocks)),
                     HtmlTable::number(by.comparison.friedman.p_permutation,
                                       number_text(by.comparison.friedman.p_permutation, 2))});
    }
  if (table.n_rows() < 2) return "";
  return "<section id=\"at-a-glance\" aria-labelledby=\"glance-title\">\n<h2 id=\"glance-title\">Who is "
         "first, at a glance</h2>\n" +
         table.html() + "</section>\n";
}

std::string facts_html(const RunResults& results) {
  std::map<CellOutcome, std::size_t> outcomes;
  std::set<std::string> methods, datasets, protocols;
  for (const CellRecord& cell : results.cells) {
    ++outcomes[cell.result.outcome];
    for (const MethodUse& use : cell.methods) methods.insert(use.family + "/" + use.label);
    datasets.insert(cell.dataset);
    protocols.insert(cell.protocol);
  }
  std::string html = "<ul class=\"facts\">";
  const auto fact = [&](std::size_t n, std::string_view thing, bool bad) {
    html +=
        fmt::format("<li{}><b>{}</b> {}{}</li>", bad ? " class=\"bad\"" : "", n, thing, n == 1 ? "" : "s");
  };
  fact(methods.size(), "method", false);
  fact(datasets.size(), "dataset", false);
  fact(protocols.size(), "protocol", false);
  fact(results.cells.size(), "cell", false);
  for (const auto& [outcome, n] : outcomes)
    html += fmt::format("<li{}><b>{}</b> {}</li>", outcome == CellOutcome::ok ? "" : " class=\"bad\"", n,
                        to_string(outcome));
  return html + "</ul>\n";
}

}  // namespace

std::string page_html(const RunResults& results, const std::vector<GroupSection>& sections,
                      std::span<const Figure> figures) {
  const std::string title = escape_html(results.title.empty() ? "Borel study" : results.title);
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" "
      "content=\"light dark\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n";
  html += "<title>" + title + " · Borel report</title>\n<style>\n" + std::string(k_page_css) +
          "</style>\n</head>\n<body>\n";
  html +=
      "<a class=\"skip\" href=\"#main\">Skip to the results</a>\n<header class=\"top\">\n<p "
      "class=\"kicker\">Comparative study · Borel</p>\n";
  html += "<h1>" + title + "</h1>\n";
  if (!results.description.empty()) html += "<p class=\"lead\">" + prose_html(results.description) + "</p>\n";
  html += facts_html(results);
  html += "<nav aria-label=\"Contents\"><ol>\n";
  std::map<std::string, int> seen;
  for (const GroupSection& section : sections) {
    const int n = ++seen[section.group.protocol];
    html += fmt::format("<li><a href=\"#{}\">{}{}</a></li>\n", section.anchor,
                        escape_html(section.group.protocol), n > 1 ? fmt::format(" ({})", n) : "");
  }
  html +=
      "<li><a href=\"#failures-section\">Failures</a></li>\n<li><a href=\"#cells-section\">Cells</a></li>\n"
      "<li><a href=\"#provenance\">Provenance</a></li>\n</ol></nav>\n</header>\n<main id=\"main\">\n";
  if (results.cells.empty()) html += "<p class=\"note\">The run holds no finished cell yet.</p>\n";
  html += glance_html(sections);
  for (const GroupSection& section : sections) html += group_html(section, figures);
  html += failures_html(results) + cells_html(results) + provenance_html(results);
  html +=
      "</main>\n<footer><p>Made by Borel. Figures are drawn by gnuplot; beside this file, the folder "
      "figures/ holds each of them as "
      "PDF, gnuplot script and CSV. Statistics: paired blocks; Friedman, Nemenyi, Wilcoxon-Holm (Demšar, "
      "2006); bootstrap "
      "intervals (Hesterberg, 2015).</p></footer>\n<script>\n";
  return html + std::string(k_page_js) + "</script>\n</body>\n</html>\n";
}

}  // namespace borel
