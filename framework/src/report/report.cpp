#include "report/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "report/figures.hpp"
#include "report/number_text.hpp"
#include "report/page.hpp"
#include "report/scaling_curves.hpp"
#include "study/run_folder.hpp"

namespace borel {
namespace {

constexpr std::size_t k_datasets_in_view = 4;  ///< figures per dataset beyond these are folded

std::string file_stem(std::string_view text) {
  std::string stem;
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
    if (plain)
      stem += c;
    else if (c >= 'A' && c <= 'Z')
      stem += static_cast<char>(c - 'A' + 'a');
    else if (!stem.empty() && stem.back() != '-')
      stem += '-';
  }
  return stem.substr(0, 100);
}

/// The figures of the report, with names that are unique and good as file names and as ids.
class FigureList {
 public:
  std::size_t add(Figure figure, const std::string& prefix, const std::string& suffix) {
    const std::string stem = file_stem(prefix + "-" + figure.name + (suffix.empty() ? "" : "-" + suffix));
    const int n = ++used_[stem];
    figure.name = n == 1 ? stem : fmt::format("{}-{}", stem, n);
    figures_.push_back(std::move(figure));
    return figures_.size() - 1;
  }
  std::vector<Figure>& all() { return figures_; }

 private:
  std::vector<Figure> figures_;
  std::map<std::string, int> used_;
};

std::vector<MetricInfo> known_metrics(const ComparisonGroup& group, const ProtocolDescription& protocol) {
  std::vector<MetricInfo> metrics;
  const auto known = [&](const std::string& name) {
    return std::any_of(metrics.begin(), metrics.end(), [&](const MetricInfo& m) { return m.name == name; });
  };
  std::vector<const Metric*> found;
  for (const CellRecord* cell : group.cells)
    if (cell)
      for (const Metric& metric : cell->result.metrics) found.push_back(&metric);
  for (const MetricInfo& info :
       protocol.metrics)  // declared, and measured by at least one cell; or nothing was measured
    if (found.empty() ||
        std::any_of(found.begin(), found.end(), [&](const Metric* m) { return m->name == info.name; }))
      metrics.push_back(info);
  for (const Metric* metric : found)
    if (!known(metric->name)) metrics.push_back({metric->name, metric->unit, metric->direction, "", false});
  const auto headline = [](const MetricInfo& m) { return m.headline && m.direction != Direction::none; };
  if (std::none_of(metrics.begin(), metrics.end(), headline))
    for (MetricInfo& metric : metrics)
      if (metric.direction != Direction::none) {
        metric.headline = true;
        break;
      }
  return metrics;
}

/// One part of a section: a figure per dataset, the first few in view.
template <class Make>
void add_part(GroupSection& section, FigureList& list, const std::string& heading, const std::string& prefix,
              Make&& make) {
  GroupSection::Part part{heading, {}, {}};
  for (std::size_t d = 0; d < section.group.datasets.size(); ++d)
    if (std::optional<Figure> figure = make(d)) {
      auto& place = part.figures.size() < k_datasets_in_view ? part.figures : part.folded;
      place.push_back(list.add(std::move(*figure), prefix, section.group.datasets[d]));
    }
  if (!part.figures.empty()) section.parts.push_back(std::move(part));
}

GroupSection make_section(const ComparisonGroup& group, std::size_t number, const ProtocolTable& protocols,
                          FigureList& list) {
  GroupSection section;
  section.group = group;
  section.anchor = fmt::format("comparison-{}", number);
  ProtocolDescription protocol;
  if (const auto known = protocols.find(group.protocol); known != protocols.end()) protocol = known->second;
  section.summary = protocol.summary;
  section.metrics = known_metrics(group, protocol);
  const std::string prefix = fmt::format("{}-{}", number, group.protocol);

  for (const MetricInfo& metric : section.metrics) {
    if (!metric.headline || metric.direction == Direction::none) continue;
    GroupSection::ByMetric by{compare_entries(group, metric), {}};
    if (group.entries.size() > 1 && by.comparison.table.n_blocks > 0) {
      by.figures.push_back(list.add(ranking_figure(group, by.comparison), prefix, ""));
      by.figures.push_back(list.add(critical_difference_figure(group, by.comparison), prefix, ""));
    }
    if (group.entries.size() > 1 && group.datasets.size() > 1)
      by.figures.push_back(list.add(heat_map_figure(group, metric), prefix, ""));
    if (group.datasets.size() <= 3)
      for (std::size_t d = 0; d < group.datasets.size(); ++d)
        by.figures.push_back(list.add(values_figure(group, metric, d), prefix, group.datasets[d]));
    section.headlines.push_back(std::move(by));
  }
  GroupSection::Part profiles{"Performance profiles", {}, {}};
  for (const MetricInfo& metric : section.metrics)
    if (is_work_to_reach(metric))
      if (std::optional<Figure> figure = profile_figure(group, metric))
        profiles.figures.push_back(list.add(std::move(*figure), prefix, ""));
  if (!profiles.figures.empty()) section.parts.push_back(std::move(profiles));
  for (const std::string& curve : curve_names(group))
    add_part(section, list, "Curves: " + words(curve), prefix,
             [&](std::size_t d) { return curve_figure(group, curve, d); });
  if (!section.headlines.empty())
    for (const std::string& timing : timing_names(group)) {
      if (is_scaling_timing(timing)) continue;  // a curve over n says more
      add_part(section, list, "Cost against quality: " + timed_words(timing), prefix, [&](std::size_t d) {
        return cost_figure(group, section.headlines.front().comparison.metric, timing, d);
      });
    }
  for (const std::string& picture : picture_names(group))
    add_part(section, list, "Pictures: " + words(picture), prefix,
             [&](std::size_t d) { return picture_figure(group, picture, d); });
  if (group.datasets.size() == 1) {  // one figure each: they stand better side by side than alone
    GroupSection::Part together;
    for (const GroupSection::Part& part : section.parts)
      together.figures.insert(together.figures.end(), part.figures.begin(), part.figures.end());
    together.heading = "Curves, cost and pictures";
    if (section.parts.size() > 1) section.parts = {together};
  }
  return section;
}

}  // namespace

std::size_t write_report(const RunResults& results, const std::filesystem::path& run_folder,
                         const ProtocolTable& protocols, const ReportOptions& options) {
  RunResults with_curves = results;
  add_scaling_curves(with_curves);
  FigureList list;
  std::vector<GroupSection> sections;
  for (const ComparisonGroup& group : comparison_groups(with_curves))
    sections.push_back(make_section(group, sections.size() + 1, protocols, list));
  draw_figures(list.all(), run_folder / "figures", options);

  write_whole_file(run_folder / "report.html", page_html(results, sections, list.all()));
  return static_cast<std::size_t>(
      std::ranges::count_if(list.all(), [](const Figure& figure) { return !figure.problem.empty(); }));
}

}  // namespace borel
