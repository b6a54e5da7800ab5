#include "borel/position.hpp"
#include "contract/contract.hpp"

namespace borel::contract {

std::span<const Rule> position_rules() { return {}; }

}  // namespace borel::contract
