#include "probe/denoiser.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "probe/denoiser_pass.hpp"
#include "probe/pool.hpp"

namespace borel::probe {
namespace {

constexpr index_t k_images = 8;  // of one task

class CropChunk final : public TrainingChunk {
 public:
  CropChunk(const ImageCrops& crops, NoiseLevels levels, const TrainingConfig& config,
            std::shared_ptr<Pool<DenoiserPass<float>>> passes, index_t first)
      : crops_(crops),
        levels_(levels),
        config_(config),
        passes_(std::move(passes)),
        first_(first),
        clean_(static_cast<std::size_t>(config.n_chunk * crops.n_pixels())),
        noisy_(clean_),
        sigma_(static_cast<std::size_t>(config.n_chunk)) {}

  void fill(index_t step) override {
    const auto size = static_cast<std::size_t>(crops_.n_pixels());
    for (std::size_t s = 0; s < sigma_.size(); ++s) {
      Rng rng = sequence_stream(config_, step, first_ + static_cast<index_t>(s));
      const auto clean = std::span(clean_).subspan(s * size, size),
                 noisy = std::span(noisy_).subspan(s * size, size);
      crops_.cut(static_cast<index_t>(rng.below(static_cast<std::uint64_t>(crops_.n_places()))), clean);
      sigma_[s] = std::exp(levels_.log_mean + levels_.log_sd * rng.normal());
      rng.fill_normal(noisy);
      for (std::size_t i = 0; i < size; ++i) noisy[i] = clean[i] + static_cast<float>(sigma_[s]) * noisy[i];
    }
  }
  index_t n_scored() const override { return static_cast<index_t>(clean_.size()); }
  double run(std::span<const float> parameters, std::span<const PositionPlan> plans, index_t n_scored,
             NetworkGradients<float>& gradients, StopToken stop) override {
    const auto pass = passes_->lend();
    const auto n_images = static_cast<std::size_t>(sequences_per_pass(config_)),
               size = n_images * static_cast<std::size_t>(crops_.n_pixels());
    double loss = 0;
    for (std::size_t first = 0; first < sigma_.size(); first += n_images) {
      const std::size_t begin = first / n_images * size;
      pass->forward(parameters, plans, std::span(noisy_).subspan(begin, size),
                    std::span(sigma_).subspan(first, n_images), stop);
      loss +=
          pass->squared_errors(std::span(clean_).subspan(begin, size), 1.0F / static_cast<float>(n_scored));
      pass->backward(parameters, plans, gradients, stop);
    }
    return loss;
  }

 private:
  const ImageCrops& crops_;
  NoiseLevels levels_;
  const TrainingConfig& config_;
  std::shared_ptr<Pool<DenoiserPass<float>>> passes_;
  index_t first_;
  std::vector<float> clean_, noisy_;
  std::vector<double> sigma_;
};

}  // namespace

void CropData::check(index_t n) const {
  if (n != crops_.grid().n_tokens())
    throw ParamError(fmt::format("training: the crops have {} patches, and the model wants {}",
                                 crops_.grid().n_tokens(), n));
}

std::vector<std::unique_ptr<TrainingChunk>> CropData::chunks(
    const TrainingConfig& config, const Architecture& architecture,
    std::span<const Mixer<float>* const> mixers) const {
  const auto passes = std::make_shared<Pool<DenoiserPass<float>>>([&config, &architecture, mixers] {
    return std::make_unique<DenoiserPass<float>>(architecture, mixers, sequences_per_pass(config), true);
  });
  std::vector<std::unique_ptr<TrainingChunk>> out;
  for (index_t first = 0; first < config.n_batch; first += config.n_chunk)
    out.push_back(std::make_unique<CropChunk>(crops_, levels_, config, passes, first));
  return out;
}

std::vector<double> SamplingSchedule::levels() const {
  std::vector<double> sigma;
  const double high = std::pow(sigma_max, 1 / rho), low = std::pow(sigma_min, 1 / rho);
  for (index_t i = 0; i < n_steps; ++i) {
    const double share = n_steps > 1 ? static_cast<double>(i) / static_cast<double>(n_steps - 1) : 0;
    sigma.push_back(std::pow(high + share * (low - high), rho));
  }
  return sigma;
}

Denoiser::Denoiser(const Architecture& architecture, std::span<const float> parameters)
    : architecture_(architecture),
      parameters_(parameters),
      plans_(architecture.plans(parameters, architecture.config().patches.n_tokens(), false, {})),
      owned_(plugin_mixers(architecture)) {
  for (const auto& mixer : owned_) mixers_.push_back(mixer.get());
}

void Denoiser::denoise(std::span<const float> noisy, double sigma, std::span<float> out,
                       StopToken stop) const {
  const PatchGrid& grid = architecture_.config().patches;
  const index_t size = grid.n_tokens() * grid.n_values;
  parallel_for(static_cast<index_t>(noisy.size()) / size, k_images, [&](index_t begin, index_t end) {
    DenoiserPass<float> pass(architecture_, mixers_, end - begin, false);
    const std::vector<double> levels(static_cast<std::size_t>(end - begin), sigma);
    const auto first = static_cast<std::size_t>(begin * size),
               count = static_cast<std::size_t>((end - begin) * size);
    std::ranges::copy(pass.forward(parameters_, plans_, noisy.subspan(first, count), levels, stop),
                      out.begin() + static_cast<std::ptrdiff_t>(first));
  });
}

std::vector<float> Denoiser::sample(index_t n, const SamplingSchedule& schedule, Seed seed,
                                    StopToken stop) const {
  const PatchGrid& grid = architecture_.config().patches;
  const auto size = static_cast<std::size_t>(grid.n_tokens() * grid.n_values);
  const std::vector<double> sigma = schedule.levels();
  std::vector<float> x(static_cast<std::size_t>(n) * size), moved(x), denoised(x), slope(x);
  for (std::size_t s = 0; s < static_cast<std::size_t>(n); ++s) {
    const auto its = std::span(x).subspan(s * size, size);
    Rng(seed.derive(static_cast<std::uint64_t>(s))).fill_normal(its);
    for (float& value : its) value *= static_cast<float>(sigma.front());
  }
  for (std::size_t i = 0; i < sigma.size(); ++i) {
    const double next = i + 1 < sigma.size() ? sigma[i + 1] : 0;
    const auto step = static_cast<float>(next - sigma[i]);
    denoise(x, sigma[i], denoised, stop);
    for (std::size_t p = 0; p < x.size(); ++p) {
      slope[p] = (x[p] - denoised[p]) / static_cast<float>(sigma[i]);
      moved[p] = x[p] + step * slope[p];
    }
    if (next > 0) {
      denoise(moved, next, denoised, stop);
      for (std::size_t p = 0; p < x.size(); ++p)
        moved[p] = x[p] + step * 0.5F * (slope[p] + (moved[p] - denoised[p]) / static_cast<float>(next));
    }
    x.swap(moved);
  }
  return x;
}

}  // namespace borel::probe
