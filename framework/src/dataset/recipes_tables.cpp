// Real tables of several columns from the Debian package of scikit-learn, fetched on the user's machine. Labels are left
// out: densities of the measurements alone.
#include <fmt/format.h>

#include "borel/rng.hpp"
#include "dataset/csv.hpp"
#include "dataset/distribution_package.hpp"
#include "dataset/inflate.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

struct Table {
  const char *id, *file, *sha256, *title, *source, *columns;
  std::int64_t rows, n_columns;  ///< the file has one more column, the label
  bool counts;                   ///< whole numbers: uniform noise makes them a density's
  std::uint64_t seed;
};

constexpr Table k_tables[] = {
    {"table_wine", "wine_data.csv", "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede",
     "Wine: 13 chemical measurements of 178 Italian wines",
     "Forina et al. (1988), PARVUS; UCI Machine Learning Repository, values as in Debian's python3-sklearn",
     "alcohol, malic acid, ash, alcalinity of ash, magnesium, total phenols, flavanoids, nonflavanoid "
     "phenols, "
     "proanthocyanins, colour intensity, hue, OD280/OD315, proline",
     178, 13, false, 0},
    {"table_breast_cancer", "breast_cancer.csv",
     "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
     "Breast cancer Wisconsin (diagnostic): 30 features of 569 cell samples",
     "Street, Wolberg, Mangasarian (1993), IS&T/SPIE 1905, 861; UCI Machine Learning Repository, values as "
     "in Debian's "
     "python3-sklearn",
     "radius, texture, perimeter, area, smoothness, compactness, concavity, concave points, symmetry, "
     "fractal dimension: "
     "mean, standard error, worst of each",
     569, 30, false, 0},
    {"table_digits", "digits.csv.gz", "46abec6b12486ad9e51943373abcf22bbea1b5a51a1619b361570d8893f1464a",
     "Digits: 1797 images of 8 x 8 pixels, grey levels 0 to 16 plus uniform noise",
     "Kaynak (1995), MSc thesis, Bogazici University; UCI Machine Learning Repository, values as in Debian's "
     "python3-sklearn; noise: Theis, van den Oord, Bethge (2016), arXiv 1511.01844, section 3.1",
     "pixels by rows", 1797, 64, true, 151101844},
};

void fill(const Table& table, DatasetWriter& writer) {
  const std::filesystem::path folder = "/usr/lib/python3/dist-packages/sklearn/datasets/data";
  const std::filesystem::path file = folder / table.file;
  std::string text = read_file(DistributionPackage("python3-sklearn", file).file(file));
  require_sha256(text, table.sha256, fmt::format("table '{}'", table.file));
  if (file.extension() == ".gz") {
    text = inflated(text, table.file);
  } else {
    text.erase(0, text.find('\n') + 1);  // sizes and names of the labels, not a row
  }
  const CsvTable csv = parse_csv(text, table.file);
  if (csv.rows != table.rows || static_cast<std::int64_t>(csv.columns.size()) != table.n_columns + 1)
    throw DatasetError(fmt::format("{}: {} rows of {} fields, expected {} of {}", table.file, csv.rows,
                                   csv.columns.size(), table.rows, table.n_columns + 1));
  Rng rng(Seed{table.seed});
  std::vector<double> x;
  for (std::size_t i = 0; i < csv.values.size(); ++i)
    if (static_cast<std::int64_t>(i) % (table.n_columns + 1) != table.n_columns)
      x.push_back(table.counts ? rounded_draw(csv.values[i] + rng.uniform()) : csv.values[i]);
  writer.array("x", std::move(x), {table.rows, table.n_columns});
  writer.attribute("x", "columns", std::string(table.columns));
}

}  // namespace

void add_table_recipes(std::vector<Recipe>& list) {
  for (const Table& table : k_tables)
    list.push_back({.id = table.id,
                    .kind = DatasetKind::samples,
                    .title = table.title,
                    .licence = "CC BY 4.0 (UCI Machine Learning Repository)",
                    .source = table.source,
                    .seed = table.seed,
                    .make = [&table](DatasetWriter& writer) { fill(table, writer); }});
}

}  // namespace borel
