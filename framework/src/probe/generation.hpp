// Text from a trained network, to see what it learned.
#pragma once

#include <string>
#include <string_view>

#include "probe/architecture.hpp"

namespace borel::probe {

struct GenerationOptions {
  index_t n = 400;           ///< bytes
  index_t context = 0;       ///< bytes that are looked back at; 0 = training length
  double temperature = 0.8;  ///< 0 = always the likeliest byte
  Seed seed = {1};
};

/// Continues the prompt; calls out(byte) for each new one. O(n context) tokens: every byte is one pass over its context, so
/// that any mechanism can be looked at, with a recurrent form or without. @throws MethodError, Stopped, ParamError
void generate(const Architecture& architecture, std::span<const float> parameters, std::string_view prompt,
              const GenerationOptions& options, FunctionRef<void(std::uint8_t)> out, StopToken stop = {});

}  // namespace borel::probe
