// The way to get a plan, and what can be read from one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "borel/error.hpp"
#include "borel/position.hpp"
#include "tile_geometry.hpp"

namespace borel {

namespace {

void check_context(const PositionContext& context, const PositionTraits& traits) {
  if (traits.needs_train_length && context.train_length <= 0)
    throw MethodError(
        "position encoding: it needs the length that the model was trained with, and train_length is not "
        "known here; "
        "set train_length");
  if (traits.causal_only && !context.causal)
    throw MethodError(
        "position encoding: it is defined for causal contexts only, and here every query sees every key");
  if (context.key_offset < 0 || context.query_offset < 0)
    throw MethodError(
        fmt::format("position encoding: offsets must be >= 0, got query_offset {}, key_offset {}",
                    context.query_offset, context.key_offset));
  const index_t n_axes = context.coordinates.empty() ? 1 : context.coordinates.shape(1);
  if (traits.n_axes > 1 && n_axes != traits.n_axes)
    throw MethodError(
        fmt::format("position encoding: it needs coordinates with {} axes for each token, got {} ({})",
                    traits.n_axes, n_axes, n_axes == 1 ? "text has one" : "use one made for as many"));
  const auto check_rows = [&](const char* name, index_t n_rows) {
    if (n_rows != context.n_tokens())
      throw MethodError(fmt::format("position encoding: {} has {} rows for {} tokens; give one per token",
                                    name, n_rows, context.n_tokens()));
    if (context.n_q > 0 && context.query_offset + context.n_q > context.n_tokens())
      throw MethodError(
          fmt::format("position encoding: the last query is token {}, but {} has {} tokens only",
                      context.query_offset + context.n_q - 1, name, n_rows));
  };
  if (!context.coordinates.empty()) check_rows("coordinates", context.coordinates.shape(0));
  if (!context.documents.empty()) check_rows("documents", static_cast<index_t>(context.documents.size()));
}

void add_documents(PositionPlan& plan, const std::shared_ptr<const std::vector<index_t>>& documents) {
  plan.documents = documents;
  for (PositionPlan& member : plan.ensemble) add_documents(member, documents);
}

void set_key_offset(PositionPlan& plan, index_t key_offset) {
  plan.key_offset = key_offset;
  for (PositionPlan& member : plan.ensemble) set_key_offset(member, key_offset);
}

}  // namespace

PositionPlan position_plan(const PositionEncoding& encoding, const PositionContext& context,
                           ParameterValues parameters) {
  check_context(context, encoding.traits());
  PositionPlan plan = encoding.plan(context, parameters);
  set_key_offset(plan, context.key_offset);
  if (!context.documents.empty())
    add_documents(plan, std::make_shared<const std::vector<index_t>>(context.documents.begin(),
                                                                     context.documents.end()));
#ifndef NDEBUG
  if (const std::string broken = check_plan(plan, context); !broken.empty())
    throw MethodError("position encoding: its plan is not valid: " + broken);
#endif
  return plan;
}

PositionTable rotary_angles(double theta_base, index_t n_rot_dims) {
  if (n_rot_dims < 0 || n_rot_dims % 2 != 0)
    throw MethodError(fmt::format(
        "rotation: it turns pairs of components, so their number must be even and >= 0, got {}", n_rot_dims));
  std::vector<double> angles(static_cast<std::size_t>(n_rot_dims / 2));
  for (std::size_t m = 0; m < angles.size(); ++m)
    angles[m] = std::pow(theta_base, -2.0 * static_cast<double>(m) / static_cast<double>(n_rot_dims));
  return make_table(std::move(angles));
}

PositionTable running_positions(index_t first, index_t n) {
  std::vector<double> positions(static_cast<std::size_t>(n));
  for (std::size_t row = 0; row < positions.size(); ++row)
    positions[row] = static_cast<double>(first + static_cast<index_t>(row));
  return make_table(std::move(positions));
}

bool is_plain_rotation(const PositionPlan& plan) {
  if (plan.bias || plan.query_scale || !plan.visible.empty() || plan.documents || plan.query_map ||
      plan.key_map || !plan.ensemble.empty())
    return false;
  if (plan.bands.empty()) return true;
  if (plan.bands.size() > 1) return false;
  const Band& band = plan.bands.front();
  const Interval all;
  return band.region.query == all && band.region.key == all && band.region.distance == all &&
         band.region.distance_stride == 1 && !band.log_amplitude && band.logit_scale == 1;
}

PositionPlan plan_for_rows(const PositionPlan& plan, index_t begin, index_t end) {
  PositionPlan part = plan;
  // Bands often share a table: cut each once.
  std::map<const std::vector<double>*, PositionTable> cut;
  for (Band& band : part.bands) {
    if (!band.query_position) continue;
    PositionTable& table = cut[band.query_position.get()];
    if (!table)
      table = make_table({band.query_position->begin() + begin * band.n_axes,
                          band.query_position->begin() + end * band.n_axes});
    band.query_position = table;
  }
  if (plan.query_scale)
    part.query_scale = std::make_shared<const std::vector<float>>(plan.query_scale->begin() + begin,
                                                                  plan.query_scale->begin() + end);
  for (PositionPlan& member : part.ensemble) member = plan_for_rows(member, begin, end);
  return part;
}

namespace {

/// Appends the ranges of keys j < n that some query i >= n sees: key j is seen by some of them when i = n is near enough,
/// as the window only moves away.
void add_kept_keys(const PositionPlan& plan, index_t n, std::vector<std::pair<index_t, index_t>>& ranges) {
  if (!plan.ensemble.empty()) {
    for (const PositionPlan& member : plan.ensemble) add_kept_keys(member, n, ranges);
    return;
  }
  if (plan.visible.empty()) ranges.emplace_back(0, n);
  for (const PairRegion& region : plan.visible) {
    if (region.query.end <= n) continue;
    const index_t first_query = std::max(n, region.query.begin);
    const index_t unlimited = Interval().end;
    const index_t begin =
        region.distance.end == unlimited ? 0 : std::max<index_t>(0, first_query - region.distance.end + 1);
    const index_t from = std::max(begin, std::max<index_t>(0, region.key.begin));
    const index_t to = std::min(n, region.key.end);
    if (from < to) ranges.emplace_back(from, to);
  }
}

}  // namespace

index_t keys_kept(const PositionPlan& plan, index_t n) {
  if (n <= 0) return 0;
  std::vector<std::pair<index_t, index_t>> ranges;
  add_kept_keys(plan, n, ranges);
  return union_size(ranges);
}

}  // namespace borel
