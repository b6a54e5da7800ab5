// Free energies whose Wasserstein flow or minimiser is known. Exact solutions are formulas of the objective (attributes
// exact, start_mean, start_sd, start_time), so that grids can be refined.
#include "borel/rng.hpp"
#include "dataset/problem_parts.hpp"
#include "dataset/published_values.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

struct Flow {
  const char* domain = "grid";
  const char* formula = "";
  const char* potential = "none";
  const char* interaction = "none";
  const char* exact = "none";
  double diffusion = 0, power = 1;
};

void put_flow(DatasetWriter& writer, const Flow& flow) {
  put_problem(writer, "free_energy", flow.formula, flow.domain);
  for (const auto& [name, text] :
       {std::pair{"potential", flow.potential}, {"interaction", flow.interaction}, {"exact", flow.exact}})
    writer.attribute("", name, std::string(text));
  writer.attribute("", "diffusion", flow.diffusion);
  writer.attribute("", "power", flow.power);
}
void put_start(DatasetWriter& writer, double mean, double sd) {
  writer.attribute("", "start_mean", mean);
  writer.attribute("", "start_sd", sd);
}
void put_grid(DatasetWriter& writer, std::vector<double> begin, std::vector<double> end,
              std::vector<std::int64_t> n_cells) {
  const auto d = static_cast<std::int64_t>(begin.size());
  writer.array("grid/begin", std::move(begin), {d});
  writer.array("grid/end", std::move(end), {d});
  writer.array("grid/n_cells", std::move(n_cells), {d});
}
void put_quadratic(DatasetWriter& writer, std::int64_t d) {
  std::vector<double> precision(static_cast<std::size_t>(d * d), 0.0);
  for (std::int64_t i = 0; i < d; ++i) precision[static_cast<std::size_t>(i * (d + 1))] = 1;
  writer.array("potential/centre", std::vector<double>(static_cast<std::size_t>(d), 0.0), {d});
  writer.array("potential/precision", std::move(precision), {d, d});
}

constexpr Flow k_ou{.formula = "V = |x|^2 / 2, U = p log p: from N(2, 1/4) to N(0, 1)",
                    .potential = "quadratic",
                    .exact = "gaussian",
                    .diffusion = 1};

void ou_grid(DatasetWriter& writer) {
  put_flow(writer, k_ou);
  put_start(writer, 2, 0.5);
  put_grid(writer, {-6}, {6}, {800});
  put_quadratic(writer, 1);
}
void ou_coarse(DatasetWriter& writer) {
  put_flow(writer, k_ou);
  put_start(writer, 2, 0.5);
  put_grid(writer, {-6}, {6}, {100});
  put_quadratic(writer, 1);
}
void ou_particles(DatasetWriter& writer) {
  Flow flow = k_ou;
  flow.domain = "particles";
  put_flow(writer, flow);
  put_start(writer, 2, 0.5);
  put_quadratic(writer, 1);
  writer.attribute("", "n_particles", 500.0);
}
void ou_plane(DatasetWriter& writer) {
  put_flow(writer, k_ou);
  put_start(writer, 1, 0.6);
  put_grid(writer, {-5, -5}, {5, 5}, {60, 60});
  put_quadratic(writer, 2);
}
void barenblatt(DatasetWriter& writer) {
  put_flow(writer,
           {.formula = "U = p^2: porous medium, dp/dt = (p^2)'', from Barenblatt's solution at time 1",
            .exact = "barenblatt",
            .diffusion = 1,
            .power = 2});
  writer.attribute("", "start_time", 1.0);
  put_grid(writer, {-6}, {6}, {200});
}
void repulsion_grid(DatasetWriter& writer) {
  put_flow(writer, {.formula = "W = |z|^2 / 2 - |z|: from N(0, 1/4) to the uniform density on [-1, 1]",
                    .interaction = "quadratic_repulsion",
                    .exact = "repulsion"});
  put_start(writer, 0, 0.5);
  put_grid(writer, {-3}, {3}, {200});
}
void repulsion_particles(DatasetWriter& writer) {
  put_flow(writer, {.domain = "particles",
                    .formula = "W = |z|^2 / 2 - |z|: from N(0, 1/4) to the uniform density on [-1, 1]",
                    .interaction = "quadratic_repulsion",
                    .exact = "repulsion"});
  put_start(writer, 0, 0.5);
  writer.attribute("", "n_particles", 200.0);
}
void double_well(DatasetWriter& writer) {
  put_flow(writer, {.formula = "V = (x^2 - 1)^2, U = 0.3 p log p: to exp(-V / 0.3) / Z",
                    .potential = "double_well",
                    .diffusion = 0.3});
  put_grid(writer, {-3}, {3}, {300});
}
void galaxy_flow(DatasetWriter& writer) {
  put_flow(writer,
           {.formula = "V = -log of the kernel density of 82 galaxies (sd 1), U = p log p: to that density",
            .potential = "mixture",
            .diffusion = 1});
  std::vector<double> x = published_table("galaxies").values;
  for (double& value : x) value /= 1000;
  const auto count = static_cast<std::int64_t>(x.size());
  put_grid(writer, {4}, {40}, {360});
  writer.array("potential/weight", std::vector<double>(x.size(), 1.0), {count});
  writer.array("potential/sd", std::vector<double>(x.size(), 1.0), {count});
  writer.array("potential/mean", std::move(x), {count, 1});
}
void plane_mixture(DatasetWriter& writer) {
  put_flow(writer, {.domain = "particles",
                    .formula = "V = -log of three Gaussians in the plane, U = p log p",
                    .potential = "mixture",
                    .diffusion = 1});
  constexpr std::int64_t n = 300;
  std::vector<double> start(2 * n);
  Rng(Seed{4104}).fill_normal(start);
  for (double& value : start) value = rounded_draw(value);
  writer.array("particles", std::move(start), {n, 2});
  writer.array("potential/weight", std::vector<double>{0.4, 0.3, 0.3}, {3});
  writer.array("potential/mean", std::vector<double>{-1, 0, 1.5, 1, 1, -1.5}, {3, 2});
  writer.array("potential/sd", std::vector<double>{0.7, 0.5, 0.6}, {3});
}

}  // namespace

void add_flow_recipes(std::vector<Recipe>& list) {
  const auto add = [&](const char* id, const char* title, const char* source, void (*make)(DatasetWriter&),
                       const char* licence = k_generated, std::uint64_t seed = 0) {
    list.push_back({.id = id,
                    .kind = DatasetKind::problem,
                    .title = title,
                    .licence = licence,
                    .source = source,
                    .seed = seed,
                    .make = make});
  };
  constexpr const char* k_ou_source = "Uhlenbeck and Ornstein (1930), Phys. Rev. 36, 823";
  add("flow_ou", "Ornstein-Uhlenbeck flow on 800 cells", k_ou_source, ou_grid);
  add("flow_ou_coarse", "Ornstein-Uhlenbeck flow on 100 cells", k_ou_source, ou_coarse);
  add("flow_ou_particles", "Ornstein-Uhlenbeck flow of 500 particles", k_ou_source, ou_particles);
  add("flow_ou_plane", "Ornstein-Uhlenbeck flow in the plane, 60 x 60 cells", k_ou_source, ou_plane);
  add("flow_barenblatt", "Porous medium: Barenblatt's self-similar solution",
      "Barenblatt (1952), Prikl. Mat. Mekh. 16, 67", barenblatt);
  add("flow_repulsion", "Attraction and repulsion: to the uniform density",
      "Carrillo, Chertock, Huang (2015)", repulsion_grid);
  add("flow_repulsion_particles", "The same by 200 particles", "Carrillo, Chertock, Huang (2015)",
      repulsion_particles);
  add("flow_double_well", "Double well with diffusion, from the uniform density",
      "Kramers (1940), Physica 7, 284", double_well);
  add("flow_galaxies", "Towards a kernel density of galaxy velocities", "Postman, Huchra, Geller (1986)",
      galaxy_flow, "published numbers (facts, no copyright)");
  add("flow_plane_mixture", "300 particles towards three Gaussians in the plane", "own generator",
      plane_mixture, k_generated, 4104);
}

}  // namespace borel
