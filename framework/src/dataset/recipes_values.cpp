// Published one-dimensional tables. All rows are fitted; protocols that hold data out split them by the
// cell's seed.
#include <fmt/format.h>

#include "dataset/published_values.hpp"
#include "dataset/recipe_lists.hpp"

namespace borel {
namespace {

struct Column {
  const char *id, *table, *column, *unit;
  double scale;
  const char *title, *source;
};

constexpr const char* k_facts = "published numbers (facts, no copyright)";
constexpr const char* k_faithful = "Azzalini and Bowman (1990), Applied Statistics 39, 357";

constexpr Column k_columns[] = {
    // In 1000 km/s, as the published mixture fits of these data are.
    {"galaxies", "galaxies", "velocity_km_s", "1000 km/s", 1e-3, "Velocities of 82 galaxies, Corona Borealis",
     "Postman, Huchra, Geller (1986), Astronomical Journal 92, 1238; values as in R's MASS"},
    {"faithful_eruptions", "faithful", "eruptions_min", "min", 1, "Old Faithful, 272 eruption times",
     k_faithful},
    {"faithful_waiting", "faithful", "waiting_min", "min", 1, "Old Faithful, 272 waiting times", k_faithful},
    {"acidity", "acidity", "log_anc", "log(ANC + 50)", 1, "Acidity of 155 lakes in Wisconsin",
     "Crawford (1994), JASA 89, 171; values as in R's mclust"},
    {"treering", "treering", "ring_width", "normalised", 1, "7980 yearly tree-ring widths, Methuselah Walk",
     "Ferguson and Graybill, Time Series Data Library; values as in R's datasets"},
    {"sp500_returns", "sp500_returns", "return_percent", "percent", 1,
     "2780 daily returns of the S&P 500, 1990-1999", "values as in R's MASS"},
    {"geyser_waiting", "geyser", "waiting_min", "min", 1, "Old Faithful, August 1985, 299 waiting times",
     k_faithful},
    {"geyser_duration", "geyser", "duration_min", "min", 1, "Old Faithful, August 1985, 299 durations",
     k_faithful},
    {"rivers", "rivers", "length_miles", "mile", 1, "Lengths of 141 rivers in North America",
     "World Almanac (1975); values as in R's datasets"},
    {"precip", "precip", "rain_inches", "inch", 1, "Yearly precipitation of 70 cities",
     "Statistical Abstract of the United States (1975); values as in R's datasets"},
    {"quakes_depth", "quakes", "depth_km", "km", 1, "Depths of 1000 earthquakes near Fiji",
     "Harvard PRIM-H project; values as in R's datasets"},
};

void fill(const Column& column, DatasetWriter& writer) {
  const CsvTable table = published_table(column.table);
  const std::size_t at = table.column(column.column, column.table);
  std::vector<double> x;
  for (std::int64_t row = 0; row < table.rows; ++row)
    x.push_back(table.values[static_cast<std::size_t>(row) * table.columns.size() + at] * column.scale);
  writer.array("x", std::move(x), {table.rows, 1});
  writer.attribute("x", "units", std::string(column.unit));
}

}  // namespace

void add_value_recipes(std::vector<Recipe>& list) {
  for (const Column& column : k_columns)
    list.push_back({.id = column.id,
                    .kind = DatasetKind::samples,
                    .title = column.title,
                    .licence = k_facts,
                    .source = column.source,
                    .make = [&column](DatasetWriter& writer) { fill(column, writer); }});
}

}  // namespace borel
