#include "borel/attention.hpp"
#include "contract/contract.hpp"

namespace borel::contract {

std::span<const Rule> attention_rules() { return {}; }

}  // namespace borel::contract
