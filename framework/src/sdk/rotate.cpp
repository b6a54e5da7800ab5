#include <algorithm>
#include <cmath>

#include "attention_kernels.hpp"
#include "rotation.hpp"

namespace borel {
namespace {

constexpr index_t k_turns = 256;  // rows between two exact sines
constexpr double k_even = 1e-9;   // positions may stray by this much, times the angle in radians

/// How many positions from the first on, at most k_turns, have the spacing of the first two.
index_t evenly_spaced(std::span<const double> positions) {
  const auto n = std::min<index_t>(k_turns, static_cast<index_t>(positions.size()));
  if (n < 2) return n;
  const double spacing = positions[1] - positions[0];
  index_t t = 2;
  while (t < n && std::abs(positions[static_cast<std::size_t>(t)] - positions[0] -
                           static_cast<double>(t) * spacing) <= k_even)
    ++t;
  return t;
}

}  // namespace

void rotation_table(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                    float* cosine, float* sine) {
  const index_t n_pairs = plan.n_rot_dims / 2;
  const auto n = static_cast<index_t>(positions.size()) / band.n_axes;
  if (band.n_axes == 1 && n_pairs > 0) {
    const Scratch<double> first(n_pairs), step(n_pairs);
    for (index_t t = 0; t < n;) {
      const index_t count = evenly_spaced(positions.subspan(static_cast<std::size_t>(t)));
      const double spacing =
          count > 1 ? positions[static_cast<std::size_t>(t + 1)] - positions[static_cast<std::size_t>(t)] : 0;
      for (index_t m = 0; m < n_pairs; ++m) {
        const double angle = (*band.angle)[static_cast<std::size_t>(m)];
        first[m] = angle * positions[static_cast<std::size_t>(t)], step[m] = angle * spacing;
      }
      kernels::turn_rows(first.data(), step.data(), count, n_pairs, cosine + t * n_pairs, sine + t * n_pairs);
      t += count;
    }
    return;
  }
  const Scratch<double> angles(n_pairs);
  for (index_t t = 0; t < n; ++t) {
    for (index_t m = 0; m < n_pairs; ++m) {
      double angle = 0;
      for (index_t a = 0; a < band.n_axes; ++a)
        angle += (*band.angle)[static_cast<std::size_t>(m * band.n_axes + a)] *
                 positions[static_cast<std::size_t>(t * band.n_axes + a)];
      angles[m] = angle;
    }
    kernels::sine_cosine(angles.data(), n_pairs, cosine + t * n_pairs, sine + t * n_pairs);
  }
}

void apply_rotation(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                    const float* cosine, const float* sine, int sign, double amplitude_origin,
                    TensorView<const float, 2> in, TensorView<float, 2> out) {
  const index_t n_pairs = plan.n_rot_dims / 2, d = in.shape(1);
  const bool interleaved = plan.pairing == Pairing::interleaved;
  if (cosine && !interleaved && !band.log_amplitude) {
    for (index_t t = 0; t < in.shape(0) && in.data() != out.data(); ++t)
      std::ranges::copy(in.row(t).subspan(static_cast<std::size_t>(plan.n_rot_dims)),
                        out.row(t).begin() + plan.n_rot_dims);
    return kernels::rotate_halves(in.data(), in.stride(0), cosine, sine, in.shape(0), n_pairs, out.data(),
                                  out.stride(0));
  }
  for (index_t t = 0; t < in.shape(0); ++t) {
    const float* x = in.data() + t * in.stride(0);
    float* y = out.data() + t * out.stride(0);
    std::copy(x + plan.n_rot_dims, x + d, y + plan.n_rot_dims);
    for (index_t m = 0; m < n_pairs; ++m) {
      const index_t first = interleaved ? 2 * m : m, second = interleaved ? 2 * m + 1 : m + n_pairs;
      float c = 1, s = 0;
      if (cosine) c = cosine[t * n_pairs + m], s = sine[t * n_pairs + m];
      if (band.log_amplitude) {
        const double offset = positions[static_cast<std::size_t>(t * band.n_axes)] - amplitude_origin;
        const auto amplitude =
            static_cast<float>(std::exp(sign * (*band.log_amplitude)[static_cast<std::size_t>(m)] * offset));
        c *= amplitude, s *= amplitude;
      }
      const float real = x[first], imaginary = x[second];
      y[first] = real * c - imaginary * s;
      y[second] = real * s + imaginary * c;
    }
  }
}

void rotate_rows(const PositionPlan& plan, const Band& band, std::span<const double> positions, int sign,
                 double amplitude_origin, TensorView<const float, 2> in, TensorView<float, 2> out) {
  assert(static_cast<index_t>(positions.size()) == in.shape(0) * band.n_axes);
  if (!band.angle)
    return apply_rotation(plan, band, positions, nullptr, nullptr, sign, amplitude_origin, in, out);
  const index_t size = in.shape(0) * (plan.n_rot_dims / 2);
  const Scratch<float> cosine(size), sine(size);
  rotation_table(plan, band, positions, cosine.data(), sine.data());
  apply_rotation(plan, band, positions, cosine.data(), sine.data(), sign, amplitude_origin, in, out);
}

void add_angle_gradient(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                        TensorView<const float, 2> rotated, TensorView<const float, 2> d_rotated,
                        std::span<double> d_angle) {
  const index_t n_pairs = plan.n_rot_dims / 2;
  const bool interleaved = plan.pairing == Pairing::interleaved;
  for (index_t r = 0; r < rotated.shape(0); ++r)
    for (index_t m = 0; m < n_pairs; ++m) {
      const index_t a = interleaved ? 2 * m : m, b = interleaved ? 2 * m + 1 : m + n_pairs;
      const double turn = static_cast<double>(d_rotated(r, b)) * static_cast<double>(rotated(r, a)) -
                          static_cast<double>(d_rotated(r, a)) * static_cast<double>(rotated(r, b));
      for (index_t axis = 0; axis < band.n_axes; ++axis)
        d_angle[static_cast<std::size_t>(m * band.n_axes + axis)] +=
            turn * positions[static_cast<std::size_t>(r * band.n_axes + axis)];
    }
}

}  // namespace borel
