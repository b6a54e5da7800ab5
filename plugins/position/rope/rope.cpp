// Rotary position embedding. Su et al. 2021, arXiv:2104.09864, equations 14 and 15; several axes: Su 2021,
// kexue.fm/archives/8397 (2-D), which gives each axis its own share of the pairs.
//
//   score(i, j) = sum_m Re[ q_m conj(k_m) exp(I (i - j) theta_m) ],   theta_m = theta_base^(-2 m / D),  m = 0 .. D/2 - 1
//
// D = n_rot_dims components are rotated, the others enter with their plain product (partial rotary, GPT-NeoX). With A axes
// the D/2 pairs are cut into A runs, pair m of run a turns with coordinate a and theta_base^(-2 m A / D). pairing:
// interleaved is the paper's (2m, 2m + 1), half is the layout of GPT-NeoX and LLaMA (m, m + D/2).
#include <string>
#include <utility>

#include "borel/draft/rotary.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionTable;

class Rope final : public borel::PositionEncoding {
 public:
  enum class Axes { coordinates, sequence };

  struct Params : borel::RotaryParams {
    Axes axes = Axes::coordinates;
    void declare(borel::ParamBinder& p) {
      RotaryParams::declare(p);
      p.choice(
          "axes", axes, {{"coordinates", Axes::coordinates}, {"sequence", Axes::sequence}},
          "What turns the pairs: the tokens' coordinates, where they have any (images), each axis with its "
          "share; or their place in the sequence alone.");
    }
  };

  explicit Rope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t n_rot_dims = params_.dims(context);
    if (context.coordinates.empty() || params_.axes == Axes::sequence)
      return params_.plan(context, {borel::plain_band(context, params_.angles(context))});
    const index_t n_axes = context.coordinates.shape(1);
    if (n_rot_dims % (2 * n_axes) != 0)
      throw borel::MethodError("position rope: it turns pairs of components on " + std::to_string(n_axes) +
                               " axes, so n_rot_dims must be a multiple of " + std::to_string(2 * n_axes) +
                               "; it is " + std::to_string(n_rot_dims));
    borel::Band band;
    band.n_axes = n_axes;
    band.angle = angles(n_rot_dims, n_axes);
    band.key_position = coordinates(context, context.key_offset, context.n_k);
    band.query_position = coordinates(context, context.query_offset, context.n_q);
    return params_.plan(context, {std::move(band)});
  }

 private:
  PositionTable angles(index_t n_rot_dims, index_t n_axes) const {
    const index_t n_pairs = n_rot_dims / 2, per_axis = n_pairs / n_axes;
    const PositionTable one_axis = borel::rotary_angles(params_.theta_base, n_rot_dims / n_axes);
    std::vector<double> angle(static_cast<std::size_t>(n_pairs * n_axes));
    for (index_t m = 0; m < n_pairs; ++m)
      angle[static_cast<std::size_t>(m * n_axes + m / per_axis)] =
          (*one_axis)[static_cast<std::size_t>(m % per_axis)];
    return borel::make_table(std::move(angle));
  }

  static PositionTable coordinates(const PositionContext& context, index_t first, index_t n) {
    std::vector<double> values;
    for (index_t t = first; t < first + n; ++t)
      for (double x : context.coordinates.row(t)) values.push_back(x);
    return borel::make_table(std::move(values));
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Rope>(
      "rope", {.summary = "Rotary embedding, one or several axes",
               .formula = "score(i, j) = Re sum_m q_m conj(k_m) exp(I (i - j) theta_base^(-2m/D))",
               .source = "Su et al. 2021, arXiv:2104.09864, equations 14 and 15",
               .complexity = "O(n d) once per call",
               .notes = "coordinates with 2 axes (images) give each axis half of the pairs"});
}
