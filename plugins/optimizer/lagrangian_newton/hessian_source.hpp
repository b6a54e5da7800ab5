// Second derivatives of an objective on a set of coordinates, by the cheapest way that its structure offers.
#pragma once

#include <cmath>
#include <map>
#include <span>
#include <vector>

#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/simplex_run.hpp"

namespace {

using borel::index_t;

/// Quadratics: columns of Q, kept from step to step. Mixtures: columns of L. Others: the problem's own Hessian, else one
/// curvature product per coordinate; both count against the budget.
class HessianSource {
 public:
  explicit HessianSource(const borel::SimplexObjective& objective) : f_(objective) {}

  /// Lower triangle of the Hessian at p on the coordinates `set`, ascending; out [set, set]. False when the budget
  /// does not allow it.
  bool on(const std::vector<index_t>& set, std::span<const double> p, borel::SimplexRun& run,
          borel::TensorView<double, 2> out) {
    if (f_.quadratic()) {
      for (std::size_t i = 0; i < set.size(); ++i) {
        const std::vector<double>& q = column(set[i]);
        for (std::size_t j = 0; j <= i; ++j)
          out(static_cast<index_t>(i), static_cast<index_t>(j)) = q[static_cast<std::size_t>(set[j])];
      }
      return true;
    }
    if (const borel::MixtureLikelihood* mixture = f_.mixture()) {
      const auto rows = static_cast<std::size_t>(mixture->n_rows());
      std::vector<double> density(rows), scaled(set.size() * rows);
      mixture->multiply(p, density);
      for (std::size_t r = 0; r < rows; ++r)
        density[r] = mixture->row_weight()[r] == 0 ? 0 : std::sqrt(mixture->row_weight()[r]) / density[r];
      for (std::size_t i = 0; i < set.size(); ++i) {
        const std::vector<double>& l = column(set[i]);
        for (std::size_t r = 0; r < rows; ++r) scaled[i * rows + r] = l[r] * density[r];
      }
      clear_lower(out);
      borel::dense::add_gram({scaled.data(), {out.shape(0), mixture->n_rows()}}, out);
      return true;
    }
    if (!run.may_call()) return false;
    if (f_.hessian(p, set, out)) return true;
    std::vector<double> unit(p.size(), 0.0), product(p.size());
    for (std::size_t i = 0; i < set.size(); ++i) {
      if (!run.may_call()) return false;
      unit[static_cast<std::size_t>(set[i])] = 1;
      f_.curvature_product(p, unit, product);
      unit[static_cast<std::size_t>(set[i])] = 0;
      for (std::size_t j = 0; j <= i; ++j)
        out(static_cast<index_t>(i), static_cast<index_t>(j)) = product[static_cast<std::size_t>(set[j])];
    }
    return true;
  }

 private:
  static void clear_lower(borel::TensorView<double, 2> m) {
    for (index_t i = 0; i < m.shape(0); ++i)
      for (index_t j = 0; j <= i; ++j) m(i, j) = 0;
  }
  const std::vector<double>& column(index_t i) {
    const auto [found, is_new] = columns_.try_emplace(i);
    if (is_new) {
      if (const borel::MixtureLikelihood* mixture = f_.mixture()) {
        found->second.resize(static_cast<std::size_t>(mixture->n_rows()));
        mixture->column(i, found->second);
      } else {
        found->second.resize(static_cast<std::size_t>(f_.size()));
        f_.quadratic()->column(i, found->second);
      }
    }
    return found->second;
  }

  const borel::SimplexObjective& f_;
  std::map<index_t, std::vector<double>> columns_;
};

}  // namespace
