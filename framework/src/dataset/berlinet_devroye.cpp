#include "dataset/berlinet_devroye.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_log_sqrt_two_pi = 0.918938533204672741780329736406;
constexpr double k_smallest = 1e-300;  // of a draw near an infinite peak

/// Mathematics libraries differ in the last bit; 36 bits are the same everywhere.
double rounded(double x) {
  int exponent = 0;
  const double mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 36)), exponent - 36);
}

double sign(Rng& rng) { return rng.uniform() < 0.5 ? -1 : 1; }
double exponential(Rng& rng) { return -std::log(rng.uniform_open()); }
/// The k-th smallest of n <= 4 uniform numbers: Beta(k, n + 1 - k).
double order_statistic(Rng& rng, std::size_t k, std::size_t n) {
  std::array<double, 4> u{};
  for (std::size_t i = 0; i < n; ++i) u[i] = rng.uniform_open();
  std::sort(u.begin(), u.begin() + static_cast<std::ptrdiff_t>(n));
  return u[k - 1];
}
double triangle(Rng& rng) { return rng.uniform_open() + rng.uniform_open() - 1; }
double log_triangle(double x) { return std::abs(x) < 1 ? std::log1p(-std::abs(x)) : -k_infinity; }
double log_normal(double x, double mean, double sd) {
  const double z = (x - mean) / sd;
  return -0.5 * z * z - std::log(sd) - k_log_sqrt_two_pi;
}
double log_sum(double a, double b) {
  const double larger = std::max(a, b);
  return larger == -k_infinity ? larger : larger + std::log1p(std::exp(std::min(a, b) - larger));
}
double within(double x, double low, double high, double log_p) {
  return x >= low && x <= high ? log_p : -k_infinity;
}
/// A draw of `make` whose size can be told from 0.
template <class Make>
double not_zero(Rng& rng, Make make) {
  double x = 0;
  while (!(std::abs(x) >= k_smallest)) x = make(rng);
  return rounded(x);
}

constexpr double k_matterhorn_end = 0.13533528323661269;  // e^-2

constexpr BerlinetDevroyeDensity k_densities[] = {
    {1, "uniform", [](Rng& rng) { return rounded(rng.uniform_open()); },
     [](double x) { return within(x, 0, 1, 0); }, false},
    {2, "exponential", [](Rng& rng) { return rounded(exponential(rng)); },
     [](double x) { return x >= 0 ? -x : -k_infinity; }, false},
    {3, "Maxwell", [](Rng& rng) { return rounded(std::sqrt(2 * exponential(rng))); },
     [](double x) { return x > 0 ? std::log(x) - 0.5 * x * x : -k_infinity; }, false},
    {4, "double exponential", [](Rng& rng) { return rounded(sign(rng) * exponential(rng)); },
     [](double x) { return -std::numbers::ln2 - std::abs(x); }, false},
    {5, "logistic",
     [](Rng& rng) {
       const double u = rng.uniform_open();
       return rounded(std::log(u) - std::log1p(-u));
     },
     [](double x) { return -std::abs(x) - 2 * std::log1p(std::exp(-std::abs(x))); }, false},
    {6, "Cauchy", [](Rng& rng) { return rounded(std::tan(std::numbers::pi * (rng.uniform_open() - 0.5))); },
     [](double x) { return -std::log(std::numbers::pi) - std::log1p(x * x); }, true},
    {7, "extreme value", [](Rng& rng) { return rounded(-std::log(exponential(rng))); },
     [](double x) { return -x - std::exp(-x); }, false},
    {8, "infinite peak",
     [](Rng& rng) {
       const double u = rng.uniform_open();
       return rounded(u * u);
     },
     [](double x) { return x > 0 && x <= 1 ? -std::numbers::ln2 - 0.5 * std::log(x) : -k_infinity; }, true},
    {9, "Pareto", [](Rng& rng) { return rounded(std::pow(rng.uniform_open(), -2)); },
     [](double x) { return x >= 1 ? -std::numbers::ln2 - 1.5 * std::log(x) : -k_infinity; }, true},
    {10, "symmetric Pareto",
     [](Rng& rng) { return rounded(sign(rng) * (std::pow(rng.uniform_open(), -2) - 1)); },
     [](double x) { return -2 * std::numbers::ln2 - 1.5 * std::log1p(std::abs(x)); }, true},
    {11, "normal", [](Rng& rng) { return rounded(rng.normal()); },
     [](double x) { return log_normal(x, 0, 1); }, false},
    {12, "lognormal", [](Rng& rng) { return rounded(std::exp(rng.normal())); },
     [](double x) { return x > 0 ? log_normal(std::log(x), 0, 1) - std::log(x) : -k_infinity; }, false},
    {13, "uniform scale mixture",
     [](Rng& rng) { return rounded((rng.uniform() < 0.5 ? 1 : 10) * (rng.uniform_open() - 0.5)); },
     [](double x) {
       return std::abs(x) <= 0.5 ? std::log(0.55) : std::abs(x) <= 5 ? std::log(0.05) : -k_infinity;
     },
     false},
    {14, "Matterhorn",
     [](Rng& rng) { return not_zero(rng, [](Rng& r) { return sign(r) * std::exp(-2 / r.uniform_open()); }); },
     [](double x) {
       const double size = std::abs(x);
       return size < k_matterhorn_end ? -std::log(size) - 2 * std::log(-std::log(size)) : -k_infinity;
     },
     true},
    {15, "logarithmic peak", [](Rng& rng) { return rounded(rng.uniform_open() * rng.uniform_open()); },
     [](double x) { return x > 0 && x < 1 ? std::log(-std::log(x)) : -k_infinity; }, true},
    {16, "isosceles triangle", [](Rng& rng) { return rounded(triangle(rng)); }, log_triangle, false},
    {17, "beta(2, 2)", [](Rng& rng) { return rounded(order_statistic(rng, 2, 3)); },
     [](double x) { return x > 0 && x < 1 ? std::log(6 * x * (1 - x)) : -k_infinity; }, false},
    {18, "chi-squared(1)",
     [](Rng& rng) {
       return not_zero(rng, [](Rng& r) {
         const double z = r.normal();
         return z * z;
       });
     },
     [](double x) { return x > 0 ? -0.5 * (x + std::log(x)) - k_log_sqrt_two_pi : -k_infinity; }, true},
    {19, "normal cubed",
     [](Rng& rng) { return not_zero(rng, [](Rng& r) { return std::pow(r.normal(), 3); }); },
     [](double x) {
       const double root = std::cbrt(std::abs(x));
       return log_normal(root, 0, 1) - std::log(3 * root * root);
     },
     true},
    {20, "inverse exponential", [](Rng& rng) { return rounded(std::pow(exponential(rng), -2)); },
     [](double x) { return x > 0 ? -1 / std::sqrt(x) - 1.5 * std::log(x) - std::numbers::ln2 : -k_infinity; },
     true},
    {21, "Marronite",
     [](Rng& rng) {
       const bool left = rng.uniform() < 1.0 / 3;
       return rounded(left ? -20 + 0.25 * rng.normal() : rng.normal());
     },
     [](double x) {
       return log_sum(log_normal(x, -20, 0.25) - std::log(3), log_normal(x, 0, 1) + std::log(2.0 / 3));
     },
     true},
    {25, "caliper",
     [](Rng& rng) { return rounded(sign(rng) * (0.1 + std::pow(order_statistic(rng, 3, 4), 3))); },
     [](double x) {
       const double t = std::abs(x) - 0.1;
       return t >= 0 && t < 1 ? std::log(2 - 2 * std::cbrt(t)) : -k_infinity;
     },
     false},
    {26, "trimodal uniform",
     [](Rng& rng) {
       const double part = rng.uniform(), u = rng.uniform_open();
       return rounded(part < 0.5 ? 2 * u - 1 : part < 0.75 ? 20 + 0.1 * u : -20 - 0.1 * u);
     },
     [](double x) {
       return std::abs(x) <= 1 ? std::log(0.25) : within(std::abs(x), 20, 20.1, std::log(2.5));
     },
     true},
    {27, "sawtooth",
     [](Rng& rng) { return rounded(2 * static_cast<double>(rng.below(10)) - 9 + triangle(rng)); },
     [](double x) {
       const double nearest = 2 * std::floor(x / 2) + 1;
       return within(nearest, -9, 9, log_triangle(x - nearest) - std::log(10.0));
     },
     false},
    {28, "bilogarithmic peak",
     [](Rng& rng) {
       const double x = rng.uniform_open() * rng.uniform_open();
       return rounded(rng.uniform() < 0.5 ? x : 1 - x);
     },
     [](double x) { return x > 0 && x < 1 ? std::log(-0.5 * (std::log(x) + std::log1p(-x))) : -k_infinity; },
     true},
};

}  // namespace

std::span<const BerlinetDevroyeDensity> berlinet_devroye_densities() { return k_densities; }

}  // namespace borel
