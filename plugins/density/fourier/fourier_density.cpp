#include "fourier_density.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

using namespace borel;
using std::numbers::pi;

namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr index_t k_grain = 1024;

}  // namespace

double log_sech_squared(double u) {
  return std::log(4.0) - 2 * std::abs(u) - 2 * std::log1p(std::exp(-2 * std::abs(u)));
}

FourierDensity::FourierDensity(std::vector<std::complex<double>> a, FourierPlacement placement,
                               Outcome outcome)
    : a_(std::move(a)), placement_(placement), outcome_(std::move(outcome)) {
  double c0 = 0;
  for (const auto& value : a_) c0 += std::norm(value);
  log_norm_ = std::log(2 * c0) + std::log(placement_.scale);
  for (std::size_t n = 1; n < a_.size(); ++n) {
    std::complex<double> c = 0;
    for (std::size_t k = 0; k + n < a_.size(); ++k) c += a_[k] * std::conj(a_[k + n]);
    c_.push_back(c / (c0 * pi * static_cast<double>(n)));
  }
}

void FourierDensity::log_pdf(TensorView<const double, 2> y, std::span<double> out) const {
  parallel_for(y.shape(0), k_grain, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) out[static_cast<std::size_t>(i)] = log_pdf_at(y(i, 0));
  });
}

bool FourierDensity::log_pdf_gradient(TensorView<const double, 2> y, TensorView<double, 2> out) const {
  parallel_for(y.shape(0), k_grain, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) out(i, 0) = slope_at(y(i, 0));
  });
  return true;
}

void FourierDensity::cdf(std::span<const double> y, std::span<double> out) const {
  parallel_for(static_cast<index_t>(y.size()), k_grain, [&](index_t begin, index_t end) {
    for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      out[i] = cdf_at(y[i]);
  });
}

RealInterval FourierDensity::support(index_t) const {
  if (placement_.map == FourierMap::tanh) return {};
  return {placement_.offset - placement_.scale, placement_.offset + placement_.scale};
}

void FourierDensity::save(StateWriter& out) const {
  std::vector<double> re, im;
  for (const auto& value : a_) re.push_back(value.real()), im.push_back(value.imag());
  out.put("a_re", re);
  out.put("a_im", im);
  out.put("placement", std::vector<double>{placement_.map == FourierMap::tanh ? 0.0 : 1.0, placement_.offset,
                                           placement_.scale, static_cast<double>(placement_.n_fitted)});
  out.put_text("sentence", outcome_.sentence);
}

double FourierDensity::log_pdf_at(double y) const {
  if (std::isnan(y)) return y;
  const double u = (y - placement_.offset) / placement_.scale;
  double x = u, log_jacobian = 0;
  if (placement_.map == FourierMap::tanh) {
    x = std::tanh(u);
    log_jacobian = log_sech_squared(u);
  } else if (!(u >= -1 && u <= 1)) {
    return -k_infinity;
  }
  const std::complex<double> z = std::polar(1.0, pi * x);
  double re = a_.back().real(), im = -a_.back().imag();
  for (std::size_t k = a_.size() - 1; k > 0; --k) {
    const double next = re * z.real() - im * z.imag() + a_[k - 1].real();
    im = re * z.imag() + im * z.real() - a_[k - 1].imag();
    re = next;
  }
  return std::log(re * re + im * im) - log_norm_ + log_jacobian;
}

/// d log p / d y = 2 Re(A'(x) / A(x)) dx/dy + d log(dx/dy) / dy
double FourierDensity::slope_at(double y) const {
  const double u = (y - placement_.offset) / placement_.scale;
  const bool real_line = placement_.map == FourierMap::tanh;
  const double x = real_line ? std::tanh(u) : u;
  const std::complex<double> z = std::polar(1.0, pi * x);
  std::complex<double> value = 0, slope = 0;  // slope: d A / d z
  for (std::size_t k = a_.size(); k > 0; --k) {
    slope = slope * z + value;
    value = value * z + std::conj(a_[k - 1]);
  }
  const double d_x = 2 * (std::complex<double>(0, pi) * z * slope / value).real();
  const double d_u = real_line ? d_x * (1 - x * x) - 2 * x : d_x;
  return d_u / placement_.scale;
}

double FourierDensity::cdf_at(double y) const {
  if (std::isnan(y)) return y;
  const double u = (y - placement_.offset) / placement_.scale;
  const double x = placement_.map == FourierMap::tanh ? std::tanh(u) : std::clamp(u, -1.0, 1.0);
  if (!(x > -1)) return 0;
  if (!(x < 1)) return 1;
  const std::complex<double> z = std::polar(1.0, pi * x);
  double re = z.real(), im = z.imag(), sign = -1, sum = 0.5 * (1 + x);
  for (const auto& c : c_) {  // c_n / (c_0 n pi)
    sum += c.real() * im + c.imag() * (re - sign);
    const double next = re * z.real() - im * z.imag();
    im = re * z.imag() + im * z.real();
    re = next;
    sign = -sign;
  }
  return std::clamp(sum, 0.0, 1.0);
}
