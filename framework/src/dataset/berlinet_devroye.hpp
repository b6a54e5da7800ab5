// Densities of Berlinet and Devroye (1994), "A comparison of kernel density estimates", Publications de l'Institut de
// Statistique de l'Universite de Paris 38: infinite peaks, heavy tails, jumps. Numbered as there; 22 to 24 are the
// Marron-Wand densities 8, 10 and 14.
#pragma once

#include <span>

#include "borel/rng.hpp"

namespace borel {

struct BerlinetDevroyeDensity {
  int number;
  const char* name;
  double (*draw)(Rng& rng);     ///< rounded to 36 significant bits
  double (*log_pdf)(double x);  ///< nats; -infinity outside of the support, finite at every draw
  bool hard;  ///< no finite mean, an infinite peak, or modes far apart: a method may decline such data
};

/// 25 densities, ascending by number.
std::span<const BerlinetDevroyeDensity> berlinet_devroye_densities();

}  // namespace borel
