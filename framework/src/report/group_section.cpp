#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/html.hpp"
#include "report/number_text.hpp"
#include "report/page.hpp"

namespace borel {
namespace {

constexpr double k_alpha = 0.05;

std::string enumerate(const std::vector<std::string>& items) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i)
    text += (i == 0 ? "" : i + 1 == items.size() ? " and " : ", ") + items[i];
  return text;
}

std::string listed_or_counted(const std::vector<std::string>& items, std::string_view thing) {
  const std::string list = enumerate(items);
  return items.size() <= 4 && list.size() <= 70 ? list : counted(items.size(), thing);
}

std::string thing_compared(const ComparisonGroup& group) {
  if (!group.entries.empty() && group.entries.front().find(" + ") != std::string::npos) return "combination";
  const std::string family = group.entry_methods.empty() ? "" : group.entry_methods.front().front().family;
  if (family == "attention") return "attention mechanism";
  if (family == "position") return "position encoding";
  if (family == "density") return "density estimator";
  if (family == "optimizer") return "optimizer";
  return "method";
}

HtmlTable::Cell value_cell(double mean, const ConfidenceInterval& interval, bool best) {
  HtmlTable::Cell cell = HtmlTable::number(mean, number_text(mean));
  if (interval.known() && interval.lower != interval.upper) {
    const std::string whole = number_text(mean, interval);
    const std::size_t space = whole.find(' ');
    cell.html = escape_html(whole.substr(0, space)) + " <span class=\"interval\">" +
                escape_html(whole.substr(space + 1)) + "</span>";
  }
  if (best) cell.style_class = "best";
  return cell;
}

HtmlTable standings_table(const GroupSection& section, const Comparison& comparison) {
  HtmlTable table(section.anchor + "-standings-" + comparison.metric.name,
                  "Standings by " + words(comparison.metric.name) +
                      ", with 95\u00a0% bootstrap intervals of the average rank",
                  {{"Method", "", false},
                   {"Average rank", "1 is best; failures share the worst rank", true},
                   {"Best in", "share of blocks in which it is best or ties for best", true},
                   {"Blocks without a value", "failed, skipped, timed out, crashed or not a number", true}});
  for (const Standing& s : comparison.standings)
    table.add_row(
        {HtmlTable::text(section.group.entries[s.entry]), value_cell(s.average_rank, s.rank_interval, false),
         HtmlTable::number(s.share_best, number_text(100 * s.share_best, 3) + "\u00a0%"),
         HtmlTable::number(static_cast<double>(s.n_without_value), std::to_string(s.n_without_value))});
  return table;
}

HtmlTable pairs_table(const GroupSection& section, const Comparison& comparison) {
  HtmlTable table(
      section.anchor + "-pairs-" + comparison.metric.name,
      "Pairs by " + words(comparison.metric.name) + ": Wilcoxon signed-rank tests, Holm-adjusted",
      {{"Better", "the smaller average rank", false},
       {"Worse", "", false},
       {"p, Holm", "adjusted over all pairs of this comparison", true},
       {"p, single", "two-sided, exact up to 200 blocks", true},
       {"Effect", "matched-pairs rank-biserial correlation: 1 = better in every block, 0 = none", true},
       {"Blocks that differ", "", true}});
  for (const PairTest& pair : comparison.pairs)
    table.add_row(
        {HtmlTable::text(section.group.entries[pair.better]),
         HtmlTable::text(section.group.entries[pair.worse]),
         HtmlTable::number(pair.p_holm, number_text(pair.p_holm, 3)),
         HtmlTable::number(pair.wilcoxon.p_value, number_text(pair.wilcoxon.p_value, 3)),
         HtmlTable::number(pair.wilcoxon.rank_biserial, number_text(pair.wilcoxon.rank_biserial, 3)),
         HtmlTable::number(static_cast<double>(pair.wilcoxon.n_used), std::to_string(pair.wilcoxon.n_used))});
  return table;
}

HtmlTable values_table(const GroupSection& section) {
  const ComparisonGroup& group = section.group;
  const std::vector<std::string> timings = timing_names(group);
  std::vector<HtmlTable::Column> columns = {
      {"Method", "", false}, {"Dataset", "", false}, {"Cells ok", "", true}};
  for (const MetricInfo& metric : section.metrics) {
    std::string title = axis_text(metric.name, metric.unit);
    if (metric.direction == Direction::higher_is_better) title += " ▲";
    if (metric.direction == Direction::lower_is_better) title += " ▼";
    columns.push_back({title, metric.doc, true});
  }
  for (const std::string& timing : timings)
    columns.push_back({timed_words(timing) + " (time)", "median of all raw timings", true});

  HtmlTable table(section.anchor + "-values",
                  "Mean over repetitions with its 95\u00a0% bootstrap interval; ▲ higher is better, ▼ lower "
                  "is better; bold: "
                  "best mean of its dataset",
                  std::move(columns));
  for (std::size_t d = 0; d < group.datasets.size(); ++d) {
    std::vector<std::vector<ValueSummary>> all;  // [metric][entry]
    std::vector<double> best;
    for (const MetricInfo& metric : section.metrics) {
      const double sign = metric.direction == Direction::higher_is_better ? -1 : 1;
      double least = std::numeric_limits<double>::infinity();
      all.emplace_back();
      for (std::size_t e = 0; e < group.entries.size(); ++e) {
        all.back().push_back(summarise(group, e, d, metric.name));
        if (!all.back().back().values.empty()) least = std::min(least, sign * all.back().back().mean);
      }
      best.push_back(metric.direction == Direction::none ? std::nan("") : sign * least);
    }
    for (std::size_t e = 0; e < group.entries.size(); ++e) {
      std::int64_t n_ok = 0, n_cells = 0;
      for (std::size_t r = 0; r < group.repetitions.size(); ++r)
        if (const CellRecord* cell = group.cell(e, d, r)) {
          ++n_cells;
          n_ok += cell->result.outcome == CellOutcome::ok;
        }
      HtmlTable::Cell state =
          HtmlTable::number(static_cast<double>(n_ok), fmt::format("{} of {}", n_ok, n_cells));
      if (n_ok < n_cells) state.style_class = "failed";
      std::vector<HtmlTable::Cell> row = {HtmlTable::text(group.entries[e]),
                                          HtmlTable::text(group.datasets[d]), state};
      for (std::size_t m = 0; m < section.metrics.size(); ++m) {
        const ValueSummary& summary = all[m][e];
        row.push_back(summary.values.empty()
                          ? HtmlTable::number(std::nan(""), "–")
                          : value_cell(summary.mean, summary.interval, summary.mean == best[m]));
      }
      for (const std::string& timing : timings) {
        const std::vector<double> seconds = timing_seconds(group, e, d, timing);
        const double median = seconds.empty() ? std::nan("") : quantile_of_sorted(seconds, 0.5);
        row.push_back(HtmlTable::number(median, seconds.empty() ? "–" : seconds_text(median)));
      }
      table.add_row(std::move(row));
    }
  }
  return table;
}

std::string tests_html(const GroupSection& section, const Comparison& comparison) {
  const FriedmanResult& f = comparison.friedman;
  std::string html = fmt::format("<details><summary>Tests by {}: how sure the ranking is</summary>",
                                 escape_html(words(comparison.metric.name)));
  html += "<p class=\"evidence\">" + escape_html(describe_evidence(comparison)) + "</p>";
  html +=
      "<p class=\"evidence\">" +
      escape_html(fmt::format(
          "Friedman test that all have the same mean rank: χ² = {} with {} degrees of freedom ({}), "
          "Iman-Davenport "
          "F = {} ({}), 2000 shuffles within blocks: {}. Check on itself (A/A): with shuffled labels the F "
          "test "
          "reports a difference in {}\u00a0% of cases; 5\u00a0% is nominal. Nemenyi critical difference at "
          "5\u00a0%: {}.",
          number_text(f.chi2), comparison.standings.size() - 1, p_text(f.p_chi2), number_text(f.f),
          p_text(f.p_f), p_text(f.p_permutation), number_text(100 * f.relabelled_rejection_rate, 2),
          number_text(comparison.critical_difference, 3))) +
      "</p>";
  html += standings_table(section, comparison).html();
  html += pairs_table(section, comparison).html();
  return html + "</details>";
}

}  // namespace

std::string group_heading(const ComparisonGroup& group) {
  const std::string thing = thing_compared(group);
  const std::string what = listed_or_counted(group.entries, thing);
  const std::string where = listed_or_counted(group.datasets, "dataset");
  return fmt::format("{} {} on {}", what, group.entries.size() == 1 ? "measured" : "compared", where);
}

std::string finding_text(const ComparisonGroup& group, const Comparison& comparison) {
  const std::string metric = words(comparison.metric.name);
  if (comparison.table.n_blocks == 0) return "Nothing can be ranked by " + metric + ": no block is complete.";
  if (group.entries.size() < 2)
    return group.entries.front() + " was measured alone; there is nothing to rank.";
  const Standing& first = comparison.standings[0];
  const bool all_failed =
      std::all_of(comparison.standings.begin(), comparison.standings.end(),
                  [&](const Standing& s) { return s.n_without_value >= comparison.table.n_blocks; });
  if (all_failed) return "No method gave a value of " + metric + ".";
  std::vector<std::string> leaders;
  for (const Standing& s : comparison.standings)
    if (s.average_rank == first.average_rank) leaders.push_back(group.entries[s.entry]);
  if (leaders.size() == comparison.standings.size()) return "All methods tie by " + metric + ".";

  const ConfidenceInterval& interval = first.rank_interval;
  std::string text = fmt::format(
      "{} {} first by {}: average rank {}{} among {}, over {}.", enumerate(leaders),
      leaders.size() == 1 ? "is" : "tie for", metric, number_text(first.average_rank, 3),
      interval.known() && interval.lower < interval.upper
          ? fmt::format(" (95\u00a0% interval {} to {})", number_text(interval.lower, 3),
                        number_text(interval.upper, 3))
          : "",
      group.entries.size(), counted(static_cast<std::size_t>(comparison.table.n_blocks), "block"));
  if (comparison.friedman.p_permutation >= k_alpha)
    return text + fmt::format(" A difference between methods is not established (Friedman, shuffled: {}).",
                              p_text(comparison.friedman.p_permutation));
  std::vector<std::string> near, far;
  for (std::size_t i = leaders.size(); i < comparison.standings.size(); ++i) {
    const Standing& s = comparison.standings[i];
    (s.average_rank - first.average_rank < comparison.critical_difference ? near : far)
        .push_back(group.entries[s.entry]);
  }
  if (near.empty()) return text + " It is told apart from all others at the 5\u00a0% level (Nemenyi).";
  text += fmt::format(" At the 5\u00a0% level (Nemenyi) it cannot be told apart from {}",
                      listed_or_counted(near, "method"));
  return text + (far.empty() ? "." : fmt::format("; it is ahead of {}.", listed_or_counted(far, "method")));
}

std::string figures_html(std::span<const Figure> figures, const std::vector<std::size_t>& chosen) {
  if (chosen.empty()) return "";
  std::string html = "<div class=\"figures\">\n";
  for (std::size_t index : chosen) {
    const Figure& figure = figures[index];
    html += fmt::format("<figure id=\"fig-{}\"{}>\n<h4>{}</h4>\n", figure.name,
                        figure.width_px > 520 ? " class=\"wide\"" : "", escape_html(figure.title));
    if (figure.svg.empty())
      html += "<p class=\"note\">" + escape_html(figure.problem) + "</p>\n";
    else if (figure.width_px > 520)
      html += fmt::format("<div class=\"draw\" tabindex=\"0\" role=\"group\" aria-label=\"{}\">{}</div>\n",
                          escape_html(figure.title), figure.svg);
    else
      html += "<div class=\"draw\">" + figure.svg + "</div>\n";
    html += "<figcaption>" + escape_html(figure.caption) + "</figcaption>\n";
    html += "<div class=\"files\">" + csv_link(figure.csv, figure.name + ".csv", "Data (CSV)") +
            fmt::format(
                " · <a href=\"figures/{0}.pdf\">PDF</a> · <a "
                "href=\"figures/{0}.gp\">gnuplot</a></div>\n</figure>\n",
                figure.name);
  }
  return html + "</div>\n";
}

std::string group_html(const GroupSection& section, std::span<const Figure> figures) {
  const ComparisonGroup& group = section.group;
  std::string html =
      fmt::format("<section id=\"{}\" aria-labelledby=\"{}-title\">\n", section.anchor, section.anchor);
  std::string kicker = group.options.empty() ? group.protocol : group.options;
  if (kicker.find(group.protocol) == std::string::npos) kicker = group.protocol + " · " + kicker;
  if (!group.constant_methods.empty()) kicker += " · " + group.constant_methods;
  html += "<p class=\"kicker\"><code>" + escape_html(kicker) + "</code></p>\n";
  html += fmt::format("<h2 id=\"{}-title\">{}</h2>\n", section.anchor, escape_html(group_heading(group)));
  if (!section.summary.empty()) html += "<p class=\"lead\">" + escape_html(section.summary) + "</p>\n";

  for (std::size_t i = 0; i < section.headlines.size(); ++i) {
    const GroupSection::ByMetric& by = section.headlines[i];
    if (section.headlines.size() > 1) {
      html += "<h3>By " + escape_html(axis_text(by.comparison.metric.name, by.comparison.metric.unit)) +
              "</h3>\n";
      if (!by.comparison.metric.doc.empty())
        html += "<p class=\"evidence\">" + escape_html(by.comparison.metric.doc) + "</p>\n";
    }
    html += "<p class=\"finding\">" + escape_html(finding_text(group, by.comparison)) + "</p>\n";
    html += figures_html(figures, by.figures);
    if (group.entries.size() > 1 && by.comparison.table.n_blocks > 0)
      html += tests_html(section, by.comparison);
  }
  for (const GroupSection::Part& part : section.parts) {
    html += "<h3>" + escape_html(part.heading) + "</h3>\n" + figures_html(figures, part.figures);
    if (!part.folded.empty())
      html += fmt::format("<details><summary>{} more</summary>\n{}</details>\n",
                          counted(part.folded.size(), "figure"), figures_html(figures, part.folded));
  }
  html += "<h3>All values</h3>\n" + values_table(section).html();
  return html + "</section>\n";
}

}  // namespace borel
