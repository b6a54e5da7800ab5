#include "probe/denoiser_pass.hpp"

#include <algorithm>
#include <cmath>

#include "probe/modulation.hpp"

namespace borel::probe {
namespace {

constexpr double k_highest_frequency = 32;  // radians for a change of sigma by e^4; the lowest is 1

template <class T>
std::vector<T> zeros(index_t n) {
  return std::vector<T>(static_cast<std::size_t>(n));
}

}  // namespace

Preconditioning preconditioning(double sigma, double sigma_data) {
  const double variance = sigma * sigma + sigma_data * sigma_data;
  return {sigma_data * sigma_data / variance, sigma * sigma_data / std::sqrt(variance),
          1 / std::sqrt(variance), 0.25 * std::log(sigma)};
}

template <class T>
DenoiserPass<T>::DenoiserPass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers,
                              index_t n_images, bool keep)
    : architecture_(architecture),
      n_images_(n_images),
      n_(architecture.config().patches.n_tokens()),
      m_(n_images * n_),
      d_(architecture.config().d_model),
      n_values_(architecture.config().patches.n_values),
      blocks_(architecture, mixers, n_images, n_, keep),
      factors_(static_cast<std::size_t>(n_images)),
      in_(zeros<T>(m_ * n_values_)),
      x_(zeros<T>(m_ * d_)),
      normed_(x_),
      rms_(zeros<T>(m_)),
      out_(in_),
      features_(zeros<T>(n_images * k_level_features)),
      level_1_(zeros<T>(n_images * d_)),
      level_1_active_(level_1_),
      level_2_(level_1_),
      condition_(level_1_),
      modulation_(zeros<T>(2 * n_images * d_)) {
  if (!keep) return;
  d_x_ = d_normed_ = x_;
  d_out_ = out_;
  d_condition_ = d_level_1_ = condition_;
  d_modulation_ = modulation_;
}

template <class T>
void DenoiserPass<T>::apply(const AffineMap& map, std::span<const T> parameters, MatrixView<const T> x,
                            MatrixView<T> out) const {
  affine<T>(x, parameter(parameters, map.weight), parameter(parameters, map.bias), out);
}

template <class T>
void DenoiserPass<T>::level_condition(std::span<const T> parameters) {
  constexpr index_t k_half = k_level_features / 2;
  for (index_t s = 0; s < n_images_; ++s)
    for (index_t f = 0; f < k_half; ++f) {
      const double frequency =
          std::pow(k_highest_frequency, static_cast<double>(f) / static_cast<double>(k_half - 1));
      const double angle = frequency * factors_[static_cast<std::size_t>(s)].level;
      T* its = features_.data() + s * k_level_features;
      its[f] = static_cast<T>(std::cos(angle));
      its[k_half + f] = static_cast<T>(std::sin(angle));
    }
  const DenoiserMaps& maps = architecture_.denoiser();
  apply(maps.level_in, parameters, {features_.data(), n_images_, k_level_features},
        {level_1_.data(), n_images_, d_});
  silu(level_1_.data(), n_images_ * d_, level_1_active_.data());
  apply(maps.level_out, parameters, {level_1_active_.data(), n_images_, d_},
        {level_2_.data(), n_images_, d_});
  silu(level_2_.data(), n_images_ * d_, condition_.data());
  apply(maps.final_modulation, parameters, {condition_.data(), n_images_, d_},
        {modulation_.data(), n_images_, 2 * d_});
}

template <class T>
std::span<const T> DenoiserPass<T>::forward(std::span<const T> parameters,
                                            std::span<const PositionPlan> plans, std::span<const T> noisy,
                                            std::span<const double> sigma, StopToken stop) {
  const index_t per_image = n_ * n_values_;
  const DenoiserMaps& maps = architecture_.denoiser();
  for (index_t s = 0; s < n_images_; ++s) {
    Preconditioning& its = factors_[static_cast<std::size_t>(s)];
    its = preconditioning(sigma[static_cast<std::size_t>(s)], architecture_.config().patches.sigma_data);
    for (index_t i = s * per_image; i < (s + 1) * per_image; ++i)
      in_[static_cast<std::size_t>(i)] = static_cast<T>(its.in) * noisy[static_cast<std::size_t>(i)];
  }
  level_condition(parameters);
  apply(maps.patch_in, parameters, {in_.data(), m_, n_values_}, {x_.data(), m_, d_});
  blocks_.forward(parameters, plans, condition_, x_, stop);
  rms_norm<T>({x_.data(), m_, d_}, parameter(parameters, architecture_.final_norm()),
              {normed_.data(), m_, d_}, rms_.data());
  modulate<T>({normed_.data(), m_, d_}, n_, {modulation_.data(), n_images_, 2 * d_});
  apply(maps.patch_out, parameters, {normed_.data(), m_, d_}, {out_.data(), m_, n_values_});
  for (index_t s = 0; s < n_images_; ++s) {
    const Preconditioning& its = factors_[static_cast<std::size_t>(s)];
    for (index_t i = s * per_image; i < (s + 1) * per_image; ++i) {
      T& out = out_[static_cast<std::size_t>(i)];
      out = static_cast<T>(its.skip) * noisy[static_cast<std::size_t>(i)] + static_cast<T>(its.out) * out;
    }
  }
  return out_;
}

template <class T>
double DenoiserPass<T>::squared_errors(std::span<const T> clean, T scale) {
  const index_t per_image = n_ * n_values_;
  double total = 0;
  for (index_t s = 0; s < n_images_; ++s) {
    const T inverse = static_cast<T>(1 / factors_[static_cast<std::size_t>(s)].out);
    for (index_t i = s * per_image; i < (s + 1) * per_image; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const T error = (out_[at] - clean[at]) * inverse;  // of F
      total += static_cast<double>(error) * static_cast<double>(error);
      if (!d_out_.empty()) d_out_[at] = 2 * scale * error;
    }
  }
  return total;
}

template <class T>
void DenoiserPass<T>::level_condition_backward(std::span<const T> parameters,
                                               NetworkGradients<T>& gradients) {
  const DenoiserMaps& maps = architecture_.denoiser();
  const auto into = [&](index_t slice) { return gradients.flat.data() + architecture_.slice(slice).offset; };
  silu_backward(level_2_.data(), d_condition_.data(), n_images_ * d_, d_condition_.data());
  affine_backward<T>({level_1_active_.data(), n_images_, d_}, {d_condition_.data(), n_images_, d_},
                     into(maps.level_out.weight), into(maps.level_out.bias));
  multiply<T>({d_condition_.data(), n_images_, d_}, false,
              {parameter(parameters, maps.level_out.weight), d_, d_}, true, false,
              {d_level_1_.data(), n_images_, d_});
  silu_backward(level_1_.data(), d_level_1_.data(), n_images_ * d_, d_level_1_.data());
  affine_backward<T>({features_.data(), n_images_, k_level_features}, {d_level_1_.data(), n_images_, d_},
                     into(maps.level_in.weight), into(maps.level_in.bias));
}

template <class T>
void DenoiserPass<T>::backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                               NetworkGradients<T>& gradients, StopToken stop) {
  const DenoiserMaps& maps = architecture_.denoiser();
  const auto into = [&](index_t slice) { return gradients.flat.data() + architecture_.slice(slice).offset; };
  const T* gain = parameter(parameters, architecture_.final_norm());
  const MatrixView<const T> d_out(d_out_.data(), m_, n_values_);
  affine_backward<T>({normed_.data(), m_, d_}, d_out, into(maps.patch_out.weight), into(maps.patch_out.bias));
  multiply<T>(d_out, false, {parameter(parameters, maps.patch_out.weight), d_, n_values_}, true, false,
              {d_normed_.data(), m_, d_});
  std::fill(d_modulation_.begin(), d_modulation_.end(), T(0));
  std::fill(d_x_.begin(), d_x_.end(), T(0));
  modulate_backward<T>({x_.data(), m_, d_}, gain, rms_.data(), n_, {modulation_.data(), n_images_, 2 * d_},
                       {d_normed_.data(), m_, d_}, {d_modulation_.data(), n_images_, 2 * d_});
  rms_norm_backward<T>({x_.data(), m_, d_}, gain, rms_.data(), {d_normed_.data(), m_, d_},
                       {d_x_.data(), m_, d_}, into(architecture_.final_norm()));
  const MatrixView<const T> d_modulation(d_modulation_.data(), n_images_, 2 * d_);
  affine_backward<T>({condition_.data(), n_images_, d_}, d_modulation, into(maps.final_modulation.weight),
                     into(maps.final_modulation.bias));
  multiply<T>(d_modulation, false, {parameter(parameters, maps.final_modulation.weight), d_, 2 * d_}, true,
              false, {d_condition_.data(), n_images_, d_});
  blocks_.backward(parameters, plans, condition_, d_x_, d_condition_, gradients, stop);
  affine_backward<T>({in_.data(), m_, n_values_}, {d_x_.data(), m_, d_}, into(maps.patch_in.weight),
                     into(maps.patch_in.bias));
  level_condition_backward(parameters, gradients);
}

template class DenoiserPass<float>;
template class DenoiserPass<double>;

}  // namespace borel::probe
