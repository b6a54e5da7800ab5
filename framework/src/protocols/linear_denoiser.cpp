#include "protocols/linear_denoiser.hpp"

#include <fmt/format.h>

#include "borel/draft/dense_kernels.hpp"

namespace borel {
namespace {
constexpr index_t k_block = 256;  // crops at a time
}

LinearDenoiser::LinearDenoiser(const probe::ImageCrops& crops, index_t n_crops, Seed seed)
    : n_pixels_(crops.n_pixels()),
      mean_(static_cast<std::size_t>(n_pixels_)),
      covariance_(static_cast<std::size_t>(n_pixels_ * n_pixels_)) {
  const index_t d = n_pixels_;
  Rng rng(seed);
  std::vector<double> columns(static_cast<std::size_t>(d * k_block));  // [d, block]
  std::vector<float> crop(static_cast<std::size_t>(d));
  const TensorView<double, 2> covariance(covariance_.data(), {d, d});
  for (index_t done = 0; done < n_crops; done += k_block) {
    const index_t n = std::min(k_block, n_crops - done);
    for (index_t c = 0; c < n; ++c) {
      crops.cut(static_cast<index_t>(rng.below(static_cast<std::uint64_t>(crops.n_places()))), crop);
      for (index_t i = 0; i < d; ++i) {
        const auto value = static_cast<double>(crop[static_cast<std::size_t>(i)]) - crops.mean();
        columns[static_cast<std::size_t>(i * n + c)] = value;
        mean_[static_cast<std::size_t>(i)] += value / static_cast<double>(n_crops);
      }
    }
    dense::add_gram({columns.data(), {d, n}}, covariance);
  }
  for (index_t i = 0; i < d; ++i)
    for (index_t j = 0; j <= i; ++j) {
      double& its = covariance(i, j);
      its = its / static_cast<double>(n_crops) -
            mean_[static_cast<std::size_t>(i)] * mean_[static_cast<std::size_t>(j)];
    }
  for (double& mean : mean_) mean += crops.mean();
}

void LinearDenoiser::denoise(double sigma, std::span<float> crops) const {
  const index_t d = n_pixels_;
  std::vector<double> factor = covariance_;
  const TensorView<double, 2> l(factor.data(), {d, d});
  for (index_t i = 0; i < d; ++i) l(i, i) += sigma * sigma;
  if (!dense::cholesky(l))
    throw MethodError(
        fmt::format("the covariance of the crops is not positive definite at sigma = {}", sigma));
  std::vector<double> z(static_cast<std::size_t>(d));
  for (auto crop = crops; !crop.empty(); crop = crop.subspan(z.size())) {
    for (std::size_t i = 0; i < z.size(); ++i) z[i] = static_cast<double>(crop[i]) - mean_[i];
    dense::cholesky_solve(l, z);
    for (std::size_t i = 0; i < z.size(); ++i) crop[i] -= static_cast<float>(sigma * sigma * z[i]);
  }
}

}  // namespace borel
