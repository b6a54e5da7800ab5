// Weights of the recurrent, kernel and low-rank mechanisms in float64, token after token; part of attention_weights().
#pragma once

#include <optional>
#include <string_view>

#include "reference/attention_reference.hpp"

namespace borel::reference {

using WeightsFunction = Matrix (*)(const MethodSpec& canonical, const AttentionCall& call, index_t head);

/// The function of this id, or nullopt.
std::optional<WeightsFunction> recurrent_weights(std::string_view id);

}  // namespace borel::reference
