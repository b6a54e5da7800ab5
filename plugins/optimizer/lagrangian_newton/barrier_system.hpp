// The linear system of an interior point step, M = H + diag(shift), solved by the cheapest way that the objective's
// structure offers.
#pragma once

#include <cmath>
#include <numeric>
#include <vector>

#include "borel/draft/dense_kernels.hpp"
#include "hessian_source.hpp"

namespace {

/// L = Q R to rounding, Q [m, rank] with orthonormal columns, by Gram-Schmidt with column pivots (twice, against
/// rounding). Likelihoods of smooth kernels have a rank of some dozens whatever their size.
struct LowRank {
  std::vector<double> q_rows;  ///< [m, rank]
  std::vector<double> r;       ///< [rank, n]
  index_t rank = 0;

  /// Stops, with rank 0, when more than max_rank columns would be needed.
  static LowRank of(const borel::MixtureLikelihood& mixture, index_t n, index_t max_rank) {
    constexpr double k_tolerance = 1e-14;  // of the largest column norm
    const index_t m = mixture.n_rows();
    std::vector<std::vector<double>> q;
    std::vector<std::vector<double>> r;
    std::vector<double> square(static_cast<std::size_t>(n), 0.0), column(static_cast<std::size_t>(m));
    for (index_t j = 0; j < n; ++j) {
      mixture.column(j, column);
      square[static_cast<std::size_t>(j)] = borel::dense::dot(column, column);
    }
    const double first = *std::ranges::max_element(square);
    for (;;) {
      const auto pivot = std::ranges::max_element(square) - square.begin();
      if (!(square[static_cast<std::size_t>(pivot)] > k_tolerance * k_tolerance * first)) break;
      if (static_cast<index_t>(q.size()) == max_rank) return {};
      mixture.column(pivot, column);
      for (int round = 0; round < 2; ++round)
        for (const std::vector<double>& axis : q)
          borel::dense::add_scaled(-borel::dense::dot(axis, column), axis, column);
      const double norm = std::sqrt(borel::dense::dot(column, column));
      if (!(norm > k_tolerance * std::sqrt(first))) {
        square[static_cast<std::size_t>(pivot)] = 0;  // the running norm had rounding left in it
        continue;
      }
      for (double& value : column) value /= norm;
      q.push_back(column);
      r.emplace_back(static_cast<std::size_t>(n));
      mixture.multiply_transposed(column, r.back());
      for (std::size_t j = 0; j < square.size(); ++j)
        square[j] = std::max(0.0, square[j] - r.back()[j] * r.back()[j]);
      square[static_cast<std::size_t>(pivot)] = 0;
    }
    LowRank found;
    found.rank = static_cast<index_t>(q.size());
    for (index_t i = 0; i < m; ++i)
      for (const std::vector<double>& axis : q) found.q_rows.push_back(axis[static_cast<std::size_t>(i)]);
    for (const std::vector<double>& row : r) found.r.insert(found.r.end(), row.begin(), row.end());
    return found;
  }
};

/// M^-1 for M = H(p) + diag(shift), shift > 0.
///   mixtures of low rank:  H = R' S R, S = Q' D Q = C C';  M^-1 by the Woodbury identity with C' R diag(1/shift) R' C + 1
///   others:                Cholesky factor of M, n x n
class BarrierSystem {
 public:
  BarrierSystem(const borel::SimplexObjective& objective, HessianSource& hessian)
      : f_(objective), hessian_(hessian), n_(objective.size()) {
    const borel::MixtureLikelihood* mixture = objective.mixture();
    if (mixture) {
      const index_t worth = std::min(n_, mixture->n_rows()) / 2;  // beyond it the dense way is cheaper
      low_ = LowRank::of(*mixture, n_, std::max<index_t>(worth, n_ > 1 ? 1 : 0));
    }
    if (low_.rank == 0) {
      all_.resize(static_cast<std::size_t>(n_));
      std::iota(all_.begin(), all_.end(), index_t{0});
    }
  }

  /// False when the budget or rounding does not allow it.
  bool factor(std::span<const double> p, const std::vector<double>& shift, borel::SimplexRun& run) {
    shift_ = shift;
    return low_.rank > 0 ? factor_low_rank(p) : factor_dense(p, run);
  }

  /// x = M^-1 x
  void solve(std::vector<double>& x) const {
    if (low_.rank == 0) {
      borel::dense::cholesky_solve({m_.data(), {n_, n_}}, x);
      return;
    }
    // Where shift is tiny (used coordinates, near the end) the two terms of Woodbury's formula cancel; residuals of the
    // system itself bring the digits back.
    const std::vector<double> right = x;
    apply_inverse(x);
    std::vector<double> residual(x.size()), image(static_cast<std::size_t>(low_.rank));
    for (int round = 0; round < k_refinements; ++round) {
      borel::dense::multiply({b_.data(), {low_.rank, n_}}, x, image);
      std::ranges::fill(residual, 0.0);
      borel::dense::add_transposed({b_.data(), {low_.rank, n_}}, image, residual);
      for (std::size_t i = 0; i < x.size(); ++i) residual[i] = right[i] - residual[i] - shift_[i] * x[i];
      apply_inverse(residual);
      borel::dense::add_scaled(1, residual, x);
    }
  }

 private:
  static constexpr int k_refinements = 3;

  /// Woodbury's formula once.
  void apply_inverse(std::vector<double>& x) const {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] /= shift_[i];
    std::vector<double> inner(static_cast<std::size_t>(low_.rank));
    borel::dense::multiply({b_.data(), {low_.rank, n_}}, x, inner);
    borel::dense::cholesky_solve({m_.data(), {low_.rank, low_.rank}}, inner);
    std::vector<double> back(x.size(), 0.0);
    borel::dense::add_transposed({b_.data(), {low_.rank, n_}}, inner, back);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= back[i] / shift_[i];
  }

  bool factor_dense(std::span<const double> p, borel::SimplexRun& run) {
    m_.resize(static_cast<std::size_t>(n_ * n_));
    const borel::TensorView<double, 2> m(m_.data(), {n_, n_});
    if (!hessian_.on(all_, p, run, m)) return false;
    for (index_t i = 0; i < n_; ++i) m(i, i) += shift_[static_cast<std::size_t>(i)];
    return borel::dense::cholesky(m);
  }

  bool factor_low_rank(std::span<const double> p) {
    const borel::MixtureLikelihood& mixture = *f_.mixture();
    const index_t m = mixture.n_rows(), k = low_.rank;
    const auto rank = static_cast<std::size_t>(k);
    std::vector<double> density(static_cast<std::size_t>(m));
    mixture.multiply(p, density);
    // C' = (D^(1/2) Q)' orthogonalised: S = Q' D Q by its Cholesky factor C.
    std::vector<double> scaled(rank * static_cast<std::size_t>(m)), s(rank * rank, 0.0);
    for (std::size_t i = 0; i < static_cast<std::size_t>(m); ++i) {
      const double root = mixture.row_weight()[i] == 0 ? 0 : std::sqrt(mixture.row_weight()[i]) / density[i];
      for (std::size_t c = 0; c < rank; ++c)
        scaled[c * static_cast<std::size_t>(m) + i] = root * low_.q_rows[i * rank + c];
    }
    const borel::TensorView<double, 2> factor(s.data(), {k, k});
    borel::dense::add_gram({scaled.data(), {k, m}}, factor);
    double largest = 0;
    for (index_t c = 0; c < k; ++c) largest = std::max(largest, factor(c, c));
    for (index_t c = 0; c < k; ++c) factor(c, c) += 1e-15 * largest;
    if (!borel::dense::cholesky(factor)) return false;
    b_.assign(rank * static_cast<std::size_t>(n_), 0.0);  // C' R
    const auto n = static_cast<std::size_t>(n_);
    for (std::size_t row = 0; row < rank; ++row)
      for (std::size_t c = 0; c <= row; ++c)
        borel::dense::add_scaled(s[row * rank + c], std::span(low_.r).subspan(row * n, n),
                                 std::span(b_).subspan(c * n, n));
    std::vector<double> weighted(b_.size());
    for (std::size_t c = 0; c < rank; ++c)
      for (std::size_t j = 0; j < n; ++j) weighted[c * n + j] = b_[c * n + j] / std::sqrt(shift_[j]);
    m_.assign(rank * rank, 0.0);
    const borel::TensorView<double, 2> inner(m_.data(), {k, k});
    borel::dense::add_gram({weighted.data(), {k, n_}}, inner);
    for (index_t c = 0; c < k; ++c) inner(c, c) += 1;
    return borel::dense::cholesky(inner);
  }

  const borel::SimplexObjective& f_;
  HessianSource& hessian_;
  index_t n_;
  LowRank low_;
  std::vector<index_t> all_;
  std::vector<double> shift_, m_, b_;
};

}  // namespace
