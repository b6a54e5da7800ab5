// Why an iterative method ended, and what it may use.
#pragma once

#include <limits>
#include <string>
#include <string_view>

#include "borel/parallel.hpp"

namespace borel {

enum class Termination {
  converged,  ///< the method's own test holds; on the simplex the framework checks the certificate as well
  budget_used_up,   ///< iterations, oracle calls or seconds
  stalled,          ///< no further progress in floating point, without a certificate
  stopped_by_user,  ///< StopToken
  failed            ///< the sentence says what went wrong; the result is the best point seen
};

/// A type for programs and a sentence for people ("gap 3.1e-10 <= 1e-9 after 214 iterations").
struct Outcome {
  Termination termination = Termination::converged;
  std::string sentence = {};
  index_t iterations = 0;
};

BOREL_EXPORT std::string_view to_string(Termination termination);

/// Limits of one fit or one minimisation. Exceeding one is not an error.
struct Budget {
  index_t max_iterations = std::numeric_limits<index_t>::max();
  index_t max_oracle_calls = std::numeric_limits<index_t>::max();
  double max_seconds = std::numeric_limits<double>::infinity();
  double memory_bytes = std::numeric_limits<double>::infinity();
  StopToken stop = {};
};

/// Told about progress, at most a few times a second matters; may be called from any one thread at a time.
class Progress {
 public:
  virtual ~Progress() = default;
  /// @param fraction in [0, 1], or negative when unknown   @param value current objective
  virtual void report(double fraction, double value) = 0;
};

}  // namespace borel
