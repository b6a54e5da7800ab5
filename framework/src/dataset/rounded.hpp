// Values made by log, exp, cos differ in the last bit between variants of the mathematics library; what goes
// into a dataset is rounded, so that its digest is the same on every machine.
#pragma once

#include <cmath>

namespace borel {

/// To a multiple of 2^-36 = 1.5e-11.
inline double rounded_draw(double x) { return std::ldexp(std::nearbyint(std::ldexp(x, 36)), -36); }

/// To a multiple of 1e-10, for closed forms of order one.
inline double rounded_truth(double x) { return std::nearbyint(x * 1e10) / 1e10; }

}  // namespace borel
