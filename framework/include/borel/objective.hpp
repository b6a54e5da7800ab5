// What an optimizer sees of a problem. Structure is offered as abilities that are asked for, so that a general method
// needs value and gradient only, and a special one can use what is known. Every oracle call is counted here.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "borel/export.hpp"
#include "borel/rng.hpp"
#include "borel/tensor.hpp"
#include "borel/trait_list.hpp"

namespace borel {

enum class Domain { simplex, grid, particles };

struct OracleCounts {
  std::int64_t values = 0, gradients = 0, curvature_products = 0;
  double columns = 0;  ///< columns of quadratic forms, each at its cost in gradients; exact to 1e-6 a column
  std::int64_t total() const { return values + gradients + curvature_products; }
  double work() const { return static_cast<double>(total()) + columns; }
};

/// Base of all objectives. One object belongs to one run; its counters are not shared. domain() decides the class:
/// simplex -> SimplexObjective, grid -> GridObjective, particles -> ParticleObjective (static_cast is safe).
class BOREL_EXPORT Objective {
 public:
  virtual ~Objective();
  virtual Domain domain() const = 0;
  /// Numbers in a state: n, cells, or N * d.
  virtual index_t size() const = 0;
  virtual std::string_view name() const = 0;
  /// Known minimum of F, when there is one.
  virtual std::optional<double> optimum() const { return std::nullopt; }
  virtual bool convex() const { return true; }
  /// Where the problem itself begins, [size()]: the density or the points that exact_density() starts from. Empty: the
  /// caller chooses (uniform on simplex and grid).
  virtual std::vector<double> start(Seed /*seed*/) const { return {}; }
  OracleCounts counts() const;

 protected:
  enum class Oracle { value, gradient, curvature };
  void count(Oracle oracle) const;
  /// For QuadraticForm::column: what one costs, as a part of a gradient.
  void count_column(double gradients) const;

 private:
  mutable std::atomic<std::int64_t> values_{0}, gradients_{0}, curvature_{0}, column_millionths_{0};
};

// The abilities below describe structure; reading it is not counted as an oracle call, but columns of quadratic forms
// are work: methods that use them instead of gradients would seem to need none.

/// Ability: F(p) = 1/2 p' Q p + b' p + c. Column access allows O(n) pairwise steps.
class QuadraticForm {
 public:
  virtual ~QuadraticForm() = default;
  virtual void column(index_t i, std::span<double> out) const = 0;  ///< Q e_i; calls Objective::count_column
  /// Rows of out [k, n] = Q e_i for k different i, with the bits of column(); faster where a pass over data serves several.
  virtual void columns(std::span<const index_t> indices, TensorView<double, 2> out) const {
    for (std::size_t k = 0; k < indices.size(); ++k) column(indices[k], out.row(static_cast<index_t>(k)));
  }
  virtual std::span<const double> linear() const = 0;  ///< b
  virtual double diagonal(index_t i) const = 0;
  virtual double constant() const = 0;
};

/// A matrix by columns: column j has value[k] in row[k] for k in [begin[j], begin[j + 1]), rows ascending.
struct SparseColumns {
  std::span<const index_t> begin, row;
  std::span<const double> value;
};

/// Ability: F(p) = -sum_i w_i log (L p)_i with L >= 0 [n_rows, n] (mixture proportions, NPMLE; D-optimal design is
/// another thing). mixture_objective.hpp makes such objectives.
class MixtureLikelihood {
 public:
  virtual ~MixtureLikelihood() = default;
  virtual index_t n_rows() const = 0;
  virtual TensorView<const double, 2> likelihood() const = 0;       ///< L; empty when sparse() has it
  virtual const SparseColumns* sparse() const { return nullptr; }   ///< null when L is dense
  virtual std::span<const double> row_weight() const = 0;           ///< w, sums to 1
  virtual void column(index_t j, std::span<double> out) const = 0;  ///< out [n_rows] = L e_j
  virtual void multiply(std::span<const double> p, std::span<double> out) const = 0;  ///< out [n_rows] = L p
  virtual void multiply_transposed(std::span<const double> r,
                                   std::span<double> out) const = 0;  ///< out [n] = L'r
};

/// Ability: p is a transport plan [n_source, n_target], row-major, with fixed marginals (they narrow the domain),
/// F(P) = <C, P> + epsilon sum P (log P - 1).
class TransportProblem {
 public:
  virtual ~TransportProblem() = default;
  virtual TensorView<const double, 2> cost() const = 0;
  virtual std::span<const double> source() const = 0;
  virtual std::span<const double> target() const = 0;
  virtual double epsilon() const = 0;
};

/// Ability: linear equality constraints A p = b that narrow the simplex (maximum entropy under moments).
class LinearConstraints {
 public:
  virtual ~LinearConstraints() = default;
  virtual TensorView<const double, 2> matrix() const = 0;
  virtual std::span<const double> right_hand_side() const = 0;
};

/// F on the probability simplex. value() may be +infinity outside its effective domain; gradients are then undefined.
class BOREL_EXPORT SimplexObjective : public Objective {
 public:
  Domain domain() const final { return Domain::simplex; }

  /// @param p [size()], in the simplex to 1e-9
  double value(std::span<const double> p) const;
  /// @param gradient [size()], written. @return F(p)
  double value_and_gradient(std::span<const double> p, std::span<double> gradient) const;
  /// out = Hessian(p) v. @pre has_curvature()
  void curvature_product(std::span<const double> p, std::span<const double> v, std::span<double> out) const;

  virtual bool has_curvature() const { return false; }
  /// Lower triangle of the Hessian at p on `coordinates`, ascending; out [k, k]. Counts as one curvature product. False when
  /// the problem knows no faster way than one product per coordinate.
  bool hessian(std::span<const double> p, std::span<const index_t> coordinates,
               TensorView<double, 2> out) const {
    const bool known = do_hessian(p, coordinates, out);
    if (known) count(Oracle::curvature);
    return known;
  }
  /// Lipschitz constant of the gradient in the 2-norm, when known.
  virtual std::optional<double> smoothness() const { return std::nullopt; }
  /// Smoothness relative to the entropy: F - L * sum p log p is concave; the step size of mirror descent is 1 / L.
  virtual std::optional<double> relative_smoothness() const { return std::nullopt; }
  /// k such that F(c p) = F(p) - k log c for c > 0, when moreover F falls in every coordinate: then
  /// p_i <- p_i (-grad_i) / k is the multiplicative (EM) update, which keeps the sum 1. Mixture likelihoods have k = 1,
  /// D-optimal designs k = the number of features.
  virtual std::optional<double> log_homogeneity() const { return std::nullopt; }

  /// argmin of F(p + t d) over t in [0, t_max], when there is a closed form; counts as one value call then.
  std::optional<double> exact_step(std::span<const double> p, std::span<const double> d, double t_max) const {
    const std::optional<double> step = do_exact_step(p, d, t_max);
    if (step) count(Oracle::value);
    return step;
  }

  virtual const QuadraticForm* quadratic() const { return nullptr; }
  virtual const MixtureLikelihood* mixture() const { return nullptr; }
  virtual const TransportProblem* transport() const { return nullptr; }
  virtual const LinearConstraints* constraints() const { return nullptr; }

 protected:
  virtual double do_value(std::span<const double> p) const = 0;
  virtual double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const = 0;
  virtual void do_curvature_product(std::span<const double> p, std::span<const double> v,
                                    std::span<double> out) const;
  virtual bool do_hessian(std::span<const double> /*p*/, std::span<const index_t> /*coordinates*/,
                          TensorView<double, 2> /*out*/) const {
    return false;
  }
  virtual std::optional<double> do_exact_step(std::span<const double> /*p*/, std::span<const double> /*d*/,
                                              double /*t_max*/) const {
    return std::nullopt;
  }
};

/// Regular grid of cells; axis 0 is the slow one. n_axes is 1 or 2. No mass crosses the border.
struct BOREL_EXPORT GridSpec {
  std::vector<double> begin = {}, end = {};
  std::vector<index_t> n_cells = {};
  index_t n_axes() const { return static_cast<index_t>(n_cells.size()); }
  index_t size() const;
  double cell_volume() const;
  double width(index_t axis) const {
    const auto a = static_cast<std::size_t>(axis);
    return (end[a] - begin[a]) / static_cast<double>(n_cells[a]);
  }
  /// Cell centres, row-major [size(), n_axes()].
  std::vector<double> centres() const;
};

/// F(p) = int V p + 1/2 int int W(x - y) p p + int U(p), the energies whose Wasserstein gradient flow is
///   dp/dt = div(p grad(V + W * p + U'(p))).
/// U(p) = diffusion * p log p (power == 1) or diffusion * p^power / (power - 1) (porous medium, power > 1).
/// On the grid the integrals are sums over cells; on particles the internal energy needs an estimate, which is the
/// method's business (that is why it is a description here, not a value).
class BOREL_EXPORT FreeEnergy : public Objective {
 public:
  virtual index_t n_dims() const = 0;

  // Potential. Batches: x [n, n_dims].
  /// Adds nothing: out [n] is written. Zero when there is no potential.
  virtual void potential(TensorView<const double, 2> x, std::span<double> out) const = 0;
  virtual void potential_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const = 0;
  /// [n, n_dims, n_dims]; false when not available (Newton-type methods refuse then).
  virtual bool potential_hessian(TensorView<const double, 2> x, TensorView<double, 3> out) const;

  virtual bool has_interaction() const { return false; }
  /// W(z) and its gradient, z [n, n_dims]; W is even.
  virtual void interaction(TensorView<const double, 2> z, std::span<double> out) const;
  virtual void interaction_gradient(TensorView<const double, 2> z, TensorView<double, 2> out) const;

  virtual double diffusion() const { return 0; }  ///< coefficient of U; 1 for sampling exp(-V)
  virtual double power() const { return 1; }

  /// log of the normalised stationary density, when known; out [n].
  virtual bool stationary_log_density(TensorView<const double, 2> x, std::span<double> out) const;
  /// Density at time t of the flow from the problem's own start, when known in closed form; out [n].
  virtual bool exact_density(double t, TensorView<const double, 2> x, std::span<double> out) const;

  /// Methods that make a velocity of potential_gradient() and the like call this once per evaluation for all points, so
  /// that work can be compared; GridObjective and ParticleObjective members count themselves.
  void count_velocity() const { count(Oracle::gradient); }
};

/// A free energy on cells. size() == grid().size().
class BOREL_EXPORT GridObjective : public FreeEnergy {
 public:
  Domain domain() const final { return Domain::grid; }
  virtual const GridSpec& grid() const = 0;
  index_t size() const final { return grid().size(); }
  index_t n_dims() const final { return grid().n_axes(); }
  /// F of cell densities p, by the midpoint rule; interactions by direct summation.
  double value(std::span<const double> p) const;
  /// dF/dp at the cell centres, V + W * p + U'(p). @return F(p)
  double value_and_derivative(std::span<const double> p, std::span<double> derivative) const;
  /// out = W * p at the cell centres, by direct summation; zero without interaction. Not counted: methods that make a
  /// velocity of it call count_velocity().
  void convolve_interaction(std::span<const double> p, std::span<double> out) const;
};

/// A free energy on N points. size() == N * n_dims().
class BOREL_EXPORT ParticleObjective : public FreeEnergy {
 public:
  Domain domain() const final { return Domain::particles; }
  virtual index_t n_particles() const = 0;
  index_t size() const final { return n_particles() * n_dims(); }
  /// Potential and interaction energy of the points [N, n_dims]; the internal energy is not part of it.
  double value(TensorView<const double, 2> x) const;
  /// Gradient of the same with respect to each point, times N (a velocity field, sign not changed).
  void gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const;
};

/// A problem as a plugin: a family of its own, for objectives that are no dataset. Studies name it where a dataset stands:
/// datasets = ["problem/mine{n=100}"]. Immutable after construction.
class BOREL_EXPORT ProblemMaker {
 public:
  static constexpr std::string_view family = "problem";
  virtual ~ProblemMaker() = default;
  virtual Domain domain() const = 0;
  /// An objective for one run; random data come from the seed. It keeps what it needs: this object may be gone before it.
  virtual std::unique_ptr<Objective> make(Seed seed) const = 0;

  TraitList describe() const {
    const Domain d = domain();
    return {{"domain", d == Domain::simplex ? "simplex" : d == Domain::grid ? "grid" : "particles"}};
  }
};

}  // namespace borel
