// What one cell of a study gives: metrics, curves, pictures, and how it ended.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace borel {

enum class CellOutcome { ok, skipped, failed, timeout, crashed };
enum class Direction { lower_is_better, higher_is_better, none };

/// The names used in journals, tables and JSON: those of the enumerators.
std::string_view to_string(CellOutcome outcome);
std::string_view to_string(Direction direction);
/// @throws Error for an unknown name
CellOutcome outcome_from(std::string_view name);
Direction direction_from(std::string_view name);
/// ok and skipped are final; the others may be tried again.
inline bool is_final(CellOutcome outcome) {
  return outcome == CellOutcome::ok || outcome == CellOutcome::skipped;
}

/// A named number. Names are snake_case and unique within a protocol; the unit is "" for pure numbers.
struct Metric {
  std::string name, unit;
  double value = 0;
  Direction direction = Direction::none;
};

/// Declaration of one metric, so that tables, ranks and figures know it before the first cell has run.
struct MetricInfo {
  std::string name, unit;
  Direction direction = Direction::none;
  std::string doc;
  bool headline = false;  ///< the report ranks by headline metrics
};

/// A named series, drawn as a line in the report.
struct Curve {
  std::string name, x_label, y_label;
  bool log_x = false, log_y = false;
  std::vector<double> x, y;
  /// Name of the curve that this one is held against (a truth, a closed form, a theory's rate): drawn dotted in that
  /// curve's figure. Empty for what a method produced.
  std::string reference_of = {};
};

/// A small array drawn as a heat map (attention map, image) in the report. Row-major.
struct Picture {
  std::string name, x_label, y_label;
  std::int64_t n_rows = 0, n_cols = 0;
  std::vector<double> values;
};

/// Raw seconds of one timed task, in the order in which they were measured.
struct Timing {
  std::string name;
  std::vector<double> seconds;
};

struct CellResult {
  CellOutcome outcome = CellOutcome::ok;
  std::string reason;  ///< for everything but ok; complete sentence
  std::vector<Metric> metrics;
  std::vector<Curve> curves;
  std::vector<Picture> pictures;
  std::vector<Timing> timings;
  double wall_s = 0;
};

}  // namespace borel
