// What the position rules share: contexts, plans, scores read from plans. Internal to the rules.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "borel/position.hpp"
#include "contract/contract.hpp"
#include "reference/attention_reference.hpp"

namespace borel::contract {

inline constexpr index_t k_position_d = 16, k_position_heads = 4;

/// A context of the kind that the encoding serves, and what it points to. Coordinates are those of an image 8 tokens wide.
struct PositionSetting {
  PositionContext context;
  std::vector<double> coordinates = {};
  /// Keys 0 .. n_k - 1 and queries offset .. offset + n_q - 1, in a model trained with 24 tokens.
  PositionSetting(const PositionEncoding& encoding, index_t n_q, index_t n_k, index_t offset, bool causal,
                  index_t test_length);
  PositionSetting(const PositionSetting&) = delete;
};

/// The masks that the encoding is defined for: causal, and without one unless it is causal only.
std::vector<bool> position_modes(const PositionEncoding& encoding);

/// With the parameters that every rule uses, drawn by their initialisers.
ParameterSet position_parameters(const PositionEncoding& encoding);
PositionPlan make_plan(const PositionEncoding& encoding, const PositionContext& context);

/// Scores [n_q, n_k] of one head for given rows of q and k, straight from the plan; hidden pairs are -infinity. For an
/// ensemble those of its members, one below the other.
reference::Matrix scores_of(const PositionPlan& plan, const PositionContext& context, index_t head,
                            std::span<const float> q, std::span<const float> k);

std::vector<float> random_rows(index_t n, Seed seed);

/// Equal, or both within the bound; NaN is unlike everything.
bool same_score(double a, double b, double bound = 1e-6);

/// Runs check on the encoding as given and with each of its choices; the first failure text with its spec, or kept.
Verdict for_every_position(const Subject& subject,
                           const std::function<std::string(const PositionEncoding&)>& check);

std::span<const Rule>
position_gradient_rules();  ///< position_gradient_rules.cpp: gradients, embeddings, token maps

}  // namespace borel::contract
