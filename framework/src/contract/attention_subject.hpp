// What the attention and position rules share: inputs of a call, variants of a method, distances. Internal to
// the rules.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "borel/attention.hpp"
#include "contract/contract.hpp"
#include "reference/attention_reference.hpp"

namespace borel::contract {

struct AttentionSizes {
  index_t h_q = 4, h_kv = 2, n_q = 65, n_k = 65, d_k = 16, d_v = 8;
  bool causal = true;
  double largest_score = 8;  ///< q and k are scaled so that max |q . k| / sqrt(d_k) is about this
};

/// Owns everything that a call points to. Inputs are random; extra inputs are drawn from their declared
/// values.
class AttentionInputs {
 public:
  AttentionInputs(const Attention& method, const AttentionSizes& sizes, Seed seed);
  AttentionInputs(const AttentionInputs&) = delete;

  AttentionCall call = {};
  std::vector<float> q, k, v;  ///< [heads, n, d], gapless
  std::vector<std::vector<float>> extra;
  std::vector<TensorView<const float, 3>> extra_views;
  std::optional<AttentionDefaults> defaults;
};

/// A plan for the call, or nullopt when the encoding cannot serve it.
std::optional<PositionPlan> plan_for(const PositionEncoding& encoding, const Attention& method,
                                     const AttentionCall& call, Seed seed);

/// The context of a call for position plans: train length a quarter of n_k, so that length rules are at work.
PositionContext position_context(const Attention& method, const AttentionCall& call);

/// forward into gapless [h_q, n_q, d_v], filled with NaN before.
std::vector<float> forward(const Attention& method, const AttentionCall& call);

/// Runs the recurrent form over all tokens, [h_q, n_q, d_v]. Plans are made per token, as in decoding.
/// @param after_token  called with the token and the state that it left, which may be moved
std::vector<float> run_steps(
    const Attention& method, const AttentionStep& step, const AttentionCall& call,
    const PositionEncoding* encoding, Seed seed,
    const std::function<void(index_t t, std::vector<float>& state)>& after_token = {});

/// A causal mode that the method has, true first.
bool some_mode(const Attention& method);
std::vector<bool> modes(const Attention& method);

/// max|v| * max(1, sum_j |w_ij|): what max_error is relative to. Without weights, max|v|.
double error_unit(const AttentionCall& call, const reference::Matrix* weights);

/// Largest |a - b|; NaN or a size that differs gives infinity.
double distance(std::span<const float> a, std::span<const float> b);

struct AttentionVariant {
  MethodSpec spec;
  std::unique_ptr<Attention> method;
};
/// The method as given, and once more for each other value of each of its choices.
std::vector<AttentionVariant> attention_variants(const Subject& subject);

/// Runs check on every variant; the first failure text, with the variant's spec, or kept.
Verdict for_every_attention(const Subject& subject,
                            const std::function<std::string(const AttentionVariant&, Seed)>& check);

/// Runs check with each instruction set that this build has and this processor runs, one alone at a time; the first
/// failure text. What check does before is done with the best one.
std::string on_every_instruction_set(const std::function<std::string(std::string_view name)>& check);

std::span<const Rule> chunk_rules();  ///< chunk_rules.cpp: long contexts and strong decays
std::span<const Rule>
attention_form_rules();  ///< attention_form_rules.cpp: recurrent, chunked, strided, grouped forms

std::span<const Rule> attention_gradient_rules();  ///< attention_gradient_rules.cpp: backward()

}  // namespace borel::contract
