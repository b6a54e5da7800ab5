// Free energies on grids and particles, made from numbers: potentials, interactions and internal energies with known
// minimisers, and flows with known solutions.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "borel/objective.hpp"

namespace borel {

enum class PotentialKind { none, quadratic, double_well, mixture };
enum class InteractionKind { none, quadratic, quadratic_repulsion };
/// What is known about the flow from the problem's own start.
enum class ExactFlow { none, gaussian, barenblatt, repulsion };

/// d = n_dims. Arrays are row-major.
struct FreeEnergySpec {
  std::string name;
  index_t n_dims = 1;
  PotentialKind potential = PotentialKind::none;
  std::vector<double> centre = {},
                      precision =
                          {};  ///< quadratic: V = 1/2 (x - centre)' precision (x - centre); [d], [d, d]
  std::vector<double> weight = {}, mean = {},
                      sd = {};  ///< mixture: V = -log sum_k weight_k N(x; mean_k, sd_k^2 I)
  /// quadratic: W = strength / 2 |z|^2; quadratic_repulsion: W = strength (|z|^2 / 2 - |z|)
  InteractionKind interaction = InteractionKind::none;
  double strength = 1;
  double diffusion = 0, power = 1;

  /// gaussian: quadratic V with precision k I (or none), start N(start_mean, start_sd^2 I), power 1;
  /// barenblatt: no V and W, power > 1, start = the self-similar solution at start_time; one dimension;
  /// repulsion: quadratic_repulsion only, start N(start_mean, start_sd^2); one dimension.
  ExactFlow exact = ExactFlow::none;
  double start_mean = 0, start_sd = 1, start_time = 1;
};

/// @param start cell densities [grid.size()], or empty: then the start of the exact flow at the cell centres, scaled to
/// mass 1, or the uniform density
/// @throws DatasetError naming the rule that the numbers break
std::unique_ptr<GridObjective> grid_problem(FreeEnergySpec spec, GridSpec grid, std::vector<double> start);
/// @param particles the start, [n, d], or n_particles draws from the start of a gaussian or repulsion flow
std::unique_ptr<ParticleObjective> particle_problem(FreeEnergySpec spec, std::vector<double> particles);
std::unique_ptr<ParticleObjective> particle_problem(FreeEnergySpec spec, index_t n_particles);

}  // namespace borel
