// Float64 references of the mechanisms that turn a row of scores into weights, besides those of attention_reference.cpp.
#pragma once

#include <optional>
#include <string_view>

#include "reference/attention_reference.hpp"

namespace borel::reference {

/// Weights of one query head of one plan (no ensembles), for a canonical spec.
using ScoreWeightsFunction = Matrix (*)(const MethodSpec&, const AttentionCall&, index_t head);

/// softmax1, qk_norm, sigmoid, relu, sparsemax, entmax15, topk, differential, forgetting; nullopt for others.
std::optional<ScoreWeightsFunction> score_weights(std::string_view id);

/// What a mechanism that is not linear in v does to weights times values, [n_q, d_v]; nothing for most.
void finish_output(const MethodSpec& canonical, const AttentionCall& call, Matrix& output);

}  // namespace borel::reference
