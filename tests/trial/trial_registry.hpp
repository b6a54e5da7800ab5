// The trial's plugins, loaded once as a user's would be.
#pragma once

#include "borel/registry.hpp"

namespace borel::trial {

const Registry& trial_registry();

}  // namespace borel::trial
