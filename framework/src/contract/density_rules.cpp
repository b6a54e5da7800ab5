#include "borel/density.hpp"
#include "contract/contract.hpp"

namespace borel::contract {

std::span<const Rule> density_rules() { return {}; }

}  // namespace borel::contract
