#include "em_kernel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gmm/em_kernel.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <limits>
#include <vector>

HWY_BEFORE_NAMESPACE();
namespace {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Doubles = hn::CappedTag<double, 8>;
using Vec = hn::Vec<Doubles>;

constexpr std::size_t k_block = 64;   // sorted points that share one list of components
constexpr double k_negligible = -40;  // a share below exp(-40) changes no sum in double
constexpr double k_log_floor = -700;  // hn::Exp is exact to here

/// Components that count somewhere in [low, high]; writes their numbers, returns how many.
std::size_t active_components(const EmComponents& c, double low, double high, std::size_t* active) {
  double floor = -std::numeric_limits<double>::infinity();
  for (std::size_t k = 0; k < c.n; ++k) {
    const double far = std::max(c.mean[k] - low, high - c.mean[k]) * c.inverse_sd[k];
    floor = std::max(floor, c.log_weight[k] - 0.5 * far * far);
  }
  std::size_t n = 0;
  for (std::size_t k = 0; k < c.n; ++k) {
    const double near = std::max(0.0, std::max(c.mean[k] - high, low - c.mean[k])) * c.inverse_sd[k];
    if (c.log_weight[k] - 0.5 * near * near >= floor + k_negligible) active[n++] = k;
  }
  return n;
}

void add_sums(const EmPoints& points, const EmComponents& c, double* sums) {
  const Doubles d;
  const std::size_t lanes = hn::Lanes(d);
  std::vector<double> memory((4 * c.n + 3) * lanes + 3 * k_block);
  double* const terms = memory.data();            // [K, lanes] of one vector of points
  double* const partial = terms + c.n * lanes;    // [3 K, lanes] sums
  double* const pad = partial + 3 * c.n * lanes;  // the last, ragged block
  std::vector<std::size_t> active(c.n);
  Vec likelihood = hn::Zero(d);
  for (std::size_t begin = 0; begin < points.n; begin += k_block) {
    const std::size_t n = std::min(k_block, points.n - begin);
    const double low = points.u[begin], high = points.u[begin + n - 1];
    const std::size_t n_active = active_components(c, low, high, active.data());
    const double *u = points.u + begin, *weight = points.weight + begin,
                 *variance = points.variance ? points.variance + begin : nullptr;
    std::size_t padded = n;
    if (n % lanes != 0) {  // points of weight 0 at the block's last place
      padded = (n + lanes - 1) / lanes * lanes;
      for (std::size_t i = 0; i < padded; ++i) {
        pad[i] = i < n ? u[i] : high;
        pad[k_block + i] = i < n ? weight[i] : 0.0;
        pad[2 * k_block + i] = i < n && variance ? variance[i] : 0.0;
      }
      u = pad, weight = pad + k_block, variance = pad + 2 * k_block;
    }
    for (std::size_t i = 0; i < padded; i += lanes) {
      const Vec x = hn::LoadU(d, u + i), w = hn::LoadU(d, weight + i);
      const Vec spread = variance ? hn::LoadU(d, variance + i) : hn::Zero(d);
      Vec top = hn::Set(d, -std::numeric_limits<double>::max());
      for (std::size_t a = 0; a < n_active; ++a) {
        const std::size_t k = active[a];
        const Vec z = hn::Mul(hn::Sub(x, hn::Set(d, c.mean[k])), hn::Set(d, c.inverse_sd[k]));
        const Vec term = hn::NegMulAdd(hn::Mul(z, hn::Set(d, 0.5)), z, hn::Set(d, c.log_weight[k]));
        hn::StoreU(term, d, terms + a * lanes);
        top = hn::Max(top, term);
      }
      Vec sum = hn::Zero(d);
      for (std::size_t a = 0; a < n_active; ++a) {
        const Vec below = hn::Max(hn::Sub(hn::LoadU(d, terms + a * lanes), top), hn::Set(d, k_log_floor));
        const Vec e = hn::Exp(d, below);
        hn::StoreU(e, d, terms + a * lanes);
        sum = hn::Add(sum, e);
      }
      likelihood = hn::MulAdd(w, hn::Add(top, hn::Log(d, sum)), likelihood);
      const Vec factor = hn::Div(w, sum);
      for (std::size_t a = 0; a < n_active; ++a) {
        double* const s = partial + 3 * active[a] * lanes;
        const Vec r = hn::Mul(hn::LoadU(d, terms + a * lanes), factor);
        const Vec difference = hn::Sub(x, hn::Set(d, c.mean[active[a]]));
        hn::StoreU(hn::Add(hn::LoadU(d, s), r), d, s);
        hn::StoreU(hn::MulAdd(r, difference, hn::LoadU(d, s + lanes)), d, s + lanes);
        hn::StoreU(hn::MulAdd(r, hn::MulAdd(difference, difference, spread), hn::LoadU(d, s + 2 * lanes)), d,
                   s + 2 * lanes);
      }
    }
  }
  for (std::size_t k = 0; k < c.n; ++k)
    for (std::size_t moment = 0; moment < 3; ++moment) {
      double total = 0;
      for (std::size_t lane = 0; lane < lanes; ++lane) total += partial[(3 * k + moment) * lanes + lane];
      sums[moment * c.n + k] += total;
    }
  sums[3 * c.n] += hn::GetLane(hn::SumOfLanes(d, likelihood));
}

}  // namespace HWY_NAMESPACE
}  // namespace
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace {
HWY_EXPORT(add_sums);
}
void add_em_sums(const EmPoints& points, const EmComponents& components, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_sums)(points, components, sums);
}
#endif
