// Training and use of a denoiser: noisy crops of images to learn from, and samples drawn by taking noise away step by step.
// Karras et al. 2022 (EDM), arXiv:2206.00364.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "probe/image_crops.hpp"
#include "probe/training.hpp"

namespace borel::probe {

/// ln(sigma) ~ N(log_mean, log_sd^2) in training; table 1.
struct NoiseLevels {
  double log_mean = -1.2, log_sd = 1.2;
};

/// Crops at random places under fresh noise, each with a level of its own.
class CropData final : public TrainingData {
 public:
  /// The crops outlive it.
  CropData(const ImageCrops& crops, NoiseLevels levels) : crops_(crops), levels_(levels) {}
  void check(index_t n) const override;
  std::vector<std::unique_ptr<TrainingChunk>> chunks(
      const TrainingConfig& config, const Architecture& architecture,
      std::span<const Mixer<float>* const> mixers) const override;

 private:
  const ImageCrops& crops_;
  NoiseLevels levels_;
};

/// Levels of a sampler, equation 5 and table 1, highest first; 0 follows.
struct SamplingSchedule {
  index_t n_steps = 18;
  double sigma_min = 0.002, sigma_max = 80, rho = 7;
  std::vector<double> levels() const;
};

/// A trained network. Threads: any number of callers; images run in parallel, same bits for any number of threads.
class Denoiser {
 public:
  /// Architecture and parameters outlive it. @throws MethodError when a plan cannot be made
  Denoiser(const Architecture& architecture, std::span<const float> parameters);

  /// D(y; sigma) of all images. @param noisy, out  [n_images, n_tokens, n_values], may be the same
  void denoise(std::span<const float> noisy, double sigma, std::span<float> out, StopToken stop = {}) const;
  /// n images as tokens: the probability flow ODE by Heun's method, algorithm 1. 2 n_steps - 1 passes.
  std::vector<float> sample(index_t n, const SamplingSchedule& schedule, Seed seed,
                            StopToken stop = {}) const;

 private:
  const Architecture& architecture_;
  std::span<const float> parameters_;
  std::vector<PositionPlan> plans_;
  std::vector<std::unique_ptr<PluginMixer>> owned_;
  std::vector<const Mixer<float>*> mixers_;
};

}  // namespace borel::probe
