// A method with each of its choices: what rules look at besides the defaults.
#pragma once

#include <vector>

#include "contract/contract.hpp"

namespace borel::contract {

/// The spec as given, and once more for each other value of each of the method's choices; combinations that the method
/// refuses are left out.
std::vector<MethodSpec> choice_variants(const Registry& registry, const MethodEntry& method,
                                        const MethodSpec& spec);

}  // namespace borel::contract
