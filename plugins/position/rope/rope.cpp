// Rotary position embedding. Su et al. 2021, arXiv:2104.09864, equations 14 and 15; several axes: Su 2021,
// kexue.fm/archives/8397 (2-D), which gives each axis its own share of the pairs.
//
//   score(i, j) = sum_m Re[ q_m conj(k_m) exp(I (i - j) theta_m) ],   theta_m = theta_base^(-2 m / D),  m = 0
//   .. D/2 - 1
//
// D = n_rot_dims components are rotated, the others enter with their plain product (partial rotary,
// GPT-NeoX). With A axes the D/2 pairs are cut into A runs, pair m of run a turns with coordinate a and
// theta_base^(-2 m A / D). pairing: interleaved is the paper's (2m, 2m + 1), half is the layout of GPT-NeoX
// and LLaMA (m, m + D/2).
#include <cmath>

#include <string>

#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using borel::index_t;
using borel::Pairing;
using borel::PositionContext;
using borel::PositionTable;

class Rope final : public borel::PositionEncoding {
 public:
  struct Params {
    double theta_base = 10000;
    Pairing pairing = Pairing::half;
    std::int64_t n_rot_dims = 0;
    void declare(borel::ParamBinder& p) {
      p.real("theta_base", theta_base, borel::Range::left_open(1, 1e12), "1",
             "Base of the frequencies; the paper has 10000.");
      p.choice("pairing", pairing, {{"half", Pairing::half}, {"interleaved", Pairing::interleaved}},
               "Which components form a pair: (m, m + D/2) or (2m, 2m + 1).");
      p.integer("n_rot_dims", n_rot_dims, borel::Range::closed(0, 65536), "1",
                "Number of rotated components, even; 0 stands for all.");
    }
    void check() const {
      if (n_rot_dims % 2 != 0)
        throw borel::ParamError("position rope: parameter 'n_rot_dims' must be even, got '" +
                                std::to_string(n_rot_dims) + "'");
    }
  };

  explicit Rope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    borel::PositionPlan plan;
    plan.pairing = params_.pairing;
    plan.n_rot_dims = params_.n_rot_dims != 0 ? params_.n_rot_dims : context.d_head;
    const index_t n_axes = context.coordinates.empty() ? 1 : context.coordinates.shape(1);
    if (plan.n_rot_dims > context.d_head || plan.n_rot_dims % (2 * n_axes) != 0)
      throw borel::MethodError("position rope: it turns pairs of components on " + std::to_string(n_axes) +
                               " axes, so n_rot_dims must be a multiple of " + std::to_string(2 * n_axes) +
                               " and at most d_head = " + std::to_string(context.d_head) + "; it is " +
                               std::to_string(plan.n_rot_dims));
    borel::Band band;
    band.n_axes = n_axes;
    band.angle = angles(plan.n_rot_dims, n_axes);
    if (context.coordinates.empty()) {
      band.key_position = borel::running_positions(0, context.n_k);
      const bool same_rows = context.query_offset == 0 && context.n_q == context.n_k;
      band.query_position =
          same_rows ? band.key_position : borel::running_positions(context.query_offset, context.n_q);
    } else {
      band.key_position = coordinates(context, 0, context.n_k);
      band.query_position = coordinates(context, context.query_offset, context.n_q);
    }
    plan.bands.push_back(std::move(band));
    return plan;
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
