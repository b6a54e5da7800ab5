// The page: sections in the order in which a reader asks. What was found, how sure, what failed, where it
// came from.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/figures.hpp"
#include "report/report.hpp"
#include "statistics/comparison.hpp"

namespace borel {

/// One comparison group with all that is shown of it. Figures are indices into the report's list.
struct GroupSection {
  struct ByMetric {
    Comparison comparison;
    std::vector<std::size_t> figures;
  };
  struct Part {
    std::string heading;
    std::vector<std::size_t> figures;
    std::vector<std::size_t> folded;  ///< beyond the first few datasets
  };
  ComparisonGroup group;
  std::string anchor, summary;
  std::vector<MetricInfo> metrics;  ///< declared ones first, then what cells hold besides
  std::vector<ByMetric> headlines;
  std::vector<Part> parts;  ///< curves, cost, pictures
};

/// "fourier, gmm and kde compared on galaxies" or "7 density estimators compared on 12 datasets".
std::string group_heading(const ComparisonGroup& group);
/// One sentence or two: who is first by this metric and from whom that can be told apart.
std::string finding_text(const ComparisonGroup& group, const Comparison& comparison);

std::string figures_html(std::span<const Figure> figures, const std::vector<std::size_t>& chosen);
std::string group_html(const GroupSection& section, std::span<const Figure> figures);
std::string page_html(const RunResults& results, const std::vector<GroupSection>& sections,
                      std::span<const Figure> figures);

}  // namespace borel
