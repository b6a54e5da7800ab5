#include "borel/draft/rotary.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {

void RotaryParams::declare(ParamBinder& p) {
  p.real("theta_base", theta_base, Range::left_open(1, 1e12), "1",
         "Base of the frequencies, as in training; RoPE has 10000.");
  p.choice("pairing", pairing, {{"half", Pairing::half}, {"interleaved", Pairing::interleaved}},
           "Which components form a pair: (m, m + D/2) or (2m, 2m + 1).");
  p.integer("n_rot_dims", n_rot_dims, Range::closed(0, 65536), "1",
            "Number D of rotated components, even; 0 stands for all.");
}

void RotaryParams::check() const {
  if (n_rot_dims % 2 != 0)
    throw ParamError(fmt::format("parameter 'n_rot_dims' must be even, got '{}'", n_rot_dims));
}

index_t RotaryParams::dims(const PositionContext& context) const {
  const index_t dims = n_rot_dims != 0 ? n_rot_dims : context.d_head;
  if (dims % 2 != 0 || dims > context.d_head)
    throw MethodError(fmt::format(
        "rotation: it turns pairs of components, so their number must be even and at most d_head = "
        "{}; it is {}. Set n_rot_dims",
        context.d_head, dims));
  return dims;
}

PositionTable RotaryParams::angles(const PositionContext& context) const {
  return rotary_angles(theta_base, dims(context));
}

PositionPlan RotaryParams::plan(const PositionContext& context, std::vector<Band> bands) const {
  PositionPlan plan;
  plan.pairing = pairing;
  plan.n_rot_dims = dims(context);
  plan.bands = std::move(bands);
  return plan;
}

void TrainLengthParam::declare(ParamBinder& p) {
  p.integer("train_length", train_length, Range::closed(0, 1 << 30), "tokens",
            "Length L of training; 0 takes the one of the context.");
}

void LengthScaleParam::declare(ParamBinder& p) {
  p.real("scale", scale, Range::closed(0, 1e6), "1",
         "Factor s between longest and trained length; 0 takes max(1, longest / L) from the context.");
  train.declare(p);
}

double LengthScaleParam::in(const PositionContext& context) const {
  if (scale != 0) return scale;
  return std::max(1.0,
                  static_cast<double>(context.longest_length()) / static_cast<double>(train.in(context)));
}

Band band_at(const PositionContext& context, PositionTable angle, FunctionRef<double(index_t)> query,
             FunctionRef<double(index_t)> key) {
  const auto table = [](index_t first, index_t n, FunctionRef<double(index_t)> position) {
    std::vector<double> positions(static_cast<std::size_t>(n));
    for (index_t row = 0; row < n; ++row) positions[static_cast<std::size_t>(row)] = position(first + row);
    return make_table(std::move(positions));
  };
  Band band;
  band.query_position = table(context.query_offset, context.n_q, query);
  band.key_position = table(context.key_offset, context.n_k, key);
  band.angle = std::move(angle);
  return band;
}

Band plain_band(const PositionContext& context, PositionTable angle) {
  Band band;
  band.key_position = running_positions(context.key_offset, context.n_k);
  // One table for both sides where they agree: the engine then takes its sines and cosines once.
  const bool same_rows = context.query_offset == context.key_offset && context.n_q == context.n_k;
  band.query_position = same_rows ? band.key_position : running_positions(context.query_offset, context.n_q);
  band.angle = std::move(angle);
  return band;
}

std::vector<Band> near_far_bands(const PositionContext& context, PositionTable angle, index_t window,
                                 double shift, FunctionRef<double(index_t)> far) {
  std::vector<Band> bands = {plain_band(context, angle)};
  bands.front().region.distance = {1 - window, window};
  bands.push_back(band_at(
      context, angle, [&](index_t i) { return far(i) + shift; }, far));
  bands.back().region.distance = {.begin = window};
  if (context.causal) return bands;
  Band ahead = band_at(
      context, angle, [&](index_t i) { return far(i) - shift; }, far);
  ahead.key_position = bands.back().key_position;
  ahead.region.distance = {.end = 1 - window};
  bands.push_back(std::move(ahead));
  return bands;
}

}  // namespace borel
