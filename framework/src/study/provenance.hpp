// Where and with what a run was made.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace borel {

using Provenance = std::vector<std::pair<std::string, std::string>>;

/// Machine, toolchain, library versions, thread counts, time. Names are stable; unknown facts are left out.
Provenance gather_provenance(int threads);

/// Now, UTC: "2026-11-23T20:15:04Z".
std::string utc_now();

/// Makes OpenBLAS, when this program has it loaded, use one thread per call: cells are parallel already.
void pin_blas_threads();

}  // namespace borel
