#include "borel/optimizer.hpp"
#include "contract/contract.hpp"

namespace borel::contract {

std::span<const Rule> optimizer_rules() { return {}; }

}  // namespace borel::contract
