#include "borel/termination.hpp"

namespace borel {

std::string_view to_string(Termination termination) {
  switch (termination) {
    case Termination::converged:
      return "converged";
    case Termination::budget_used_up:
      return "budget_used_up";
    case Termination::stalled:
      return "stalled";
    case Termination::stopped_by_user:
      return "stopped_by_user";
    case Termination::failed:
      return "failed";
  }
  return "unknown";
}

}  // namespace borel
