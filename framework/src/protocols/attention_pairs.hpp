// Which mechanism takes which encoding: the compatibility matrix, made from the registry.
#pragma once

#include <string>
#include <vector>

#include "borel/registry.hpp"

namespace borel {

/// One pair, both with their default parameters.
struct AttentionPairing {
  std::string attention, position;             ///< ids
  bool causal = false, bidirectional = false;  ///< the masks under which the pair works
  std::string reason = {};                     ///< why it works under none; "" when it works
  bool works() const { return causal || bidirectional; }
};

/// Every mechanism with every encoding, sorted by their ids. Asks for plans of a text (or, for encodings that need it, an
/// image) of 64 tokens and a model with token embeddings that was trained with 32; schedules over layers must work in every one
/// of 12. Runs no mechanism.
/// @param only  empty, or the one mechanism or encoding that is asked about, with its parameters
/// @throws RegistryError, ParamError for an `only` that cannot be made
std::vector<AttentionPairing> attention_pairings(const Registry& registry, const MethodSpec& only = {});

}  // namespace borel
