// What S = E|a| / sqrt(E a^2) is for Gaussian keys and infinitely many of them. J. Su, kexue.fm/archives/9889.
//
// Keys k ~ N(mu, sigma^2 I), scores x = c q.k ~ N(beta, gamma^2) with beta = c q.mu, gamma = c sigma |q|.
#pragma once

#include <optional>
#include <span>

#include "borel/method_spec.hpp"
#include "borel/tensor.hpp"

namespace borel {

struct GaussianKeys {
  double sigma = 1;
  std::span<const double> mean;  ///< mu, [d]
  index_t n = 0;                 ///< keys of a row
};

struct ConcentrationTruth {
  double sparsity = 1;     ///< S for n -> infinity
  double relative_sd = 0;  ///< standard deviation of a row's S with n keys, relative to it (first order)
};

/// The closed form, or its one-dimensional integral, of a mechanism without positions; nullopt where none is known for these
/// parameters. Mechanisms whose weight is a function f of the score alone, up to a factor of the row (softmax with or without
/// a sink, softmax1, sigmoid, relu, relu2, taylor, identity; sparsemax, entmax15 and topk with the threshold that n keys give):
/// E f, E f^2 over N(beta, gamma^2). Linear attention with a feature map by components: exact moments
/// of the mapped keys. Linear decay: independent of the scores, S is the product of both.
/// @param canonical the mechanism with all its parameters   @param head for decays that differ between heads
std::optional<ConcentrationTruth> concentration_truth(const MethodSpec& canonical, const GaussianKeys& keys,
                                                      std::span<const float> q, index_t head);

}  // namespace borel
