// borel data: the datasets of this machine. list, make, info, verify, import, capture, export.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "dataset/dataset.hpp"
#include "dataset/import_export.hpp"
#include "dataset/recipes.hpp"
#include "dataset/screen.hpp"
#include "probe/capture.hpp"
#include "session.hpp"
#include "study_data.hpp"

namespace borel::app {
namespace {

using Json = nlohmann::ordered_json;

struct DataOptions {
  std::vector<std::string> names, arrays, columns, settings;
  std::string kind, title, source, licence, format = "npy", study, out;
  double test_share = 0.1, time_limit_s = 0;
  std::int64_t layer = 0, n = 0, first = 0;  // of a capture
  bool json = false, all = false, again = false, force = false;
};

std::string human_size(std::uint64_t bytes) {
  constexpr double k_step = 1000;
  double value = static_cast<double>(bytes);
  for (const char* unit : {"B", "kB", "MB"}) {
    if (value < k_step) return fmt::format("{:.{}f} {}", value, value < 10 && unit[0] != 'B' ? 1 : 0, unit);
    value /= k_step;
  }
  return fmt::format("{:.1f} GB", value);
}

std::filesystem::path file_of(const std::string& id_or_path) {
  if (id_or_path.ends_with(".h5") || id_or_path.find('/') != std::string::npos) return id_or_path;
  const auto file = data_folder() / (id_or_path + ".h5");
  if (!std::filesystem::exists(file))
    find_dataset(id_or_path);  // throws with the reason and the nearest name
  return file;
}

bool is_current(const Recipe& recipe, const std::filesystem::path& file) {
  try {
    const h5::Reader reader(file);
    return reader.has_attribute("", "recipe_version") &&
           reader.number_attribute("", "recipe_version") == recipe.version;
  } catch (const DatasetError&) {
    return false;
  }
}

// Ids in the data folder that no recipe makes: imported ones.
std::vector<std::string> imported_ids() {
  std::vector<std::string> ids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(data_folder(), error))
    if (entry.path().extension() == ".h5" && !find_recipe(entry.path().stem().string()))
      ids.push_back(entry.path().stem().string());
  std::sort(ids.begin(), ids.end());
  return ids;
}

void list(const DataOptions& options) {
  struct Row {
    std::string id, kind, state, title, source, licence;
    std::uint64_t file_bytes = 0;
  };
  std::vector<Row> rows;
  std::error_code error;
  for (const Recipe& recipe : recipes()) {
    Row row{recipe.id, std::string(kind_name(recipe.kind)), "-", recipe.title, recipe.source, recipe.licence};
    const auto file = data_folder() / (recipe.id + ".h5");
    if (std::filesystem::exists(file, error)) {
      row.state = is_current(recipe, file) ? "made" : "outdated";
      row.file_bytes = std::filesystem::file_size(file, error);
    }
    rows.push_back(std::move(row));
  }
  for (const std::string& id : imported_ids()) {
    Row row{id, "?", "imported", "", "", ""};
    const auto file = data_folder() / (id + ".h5");
    row.file_bytes = std::filesystem::file_size(file, error);
    try {
      const DatasetInfo info = read_dataset_info(file);
      row = {id,
             std::string(kind_name(info.kind)),
             "imported",
             info.title,
             info.source,
             info.licence,
             row.file_bytes};
    } catch (const DatasetError& refusal) {
      row.state = "refused";
      row.title = refusal.what();
    }
    rows.push_back(std::move(row));
  }
  if (options.json) {
    Json out = {{"folder", data_folder().string()}, {"datasets", Json::array()}};
    for (const Row& row : rows)
      out["datasets"].push_back({{"id", row.id},
                                 {"kind", row.kind},
                                 {"state", row.state},
                                 {"file_bytes", row.file_bytes},
                                 {"title", row.title},
                                 {"source", row.source},
                                 {"licence", row.licence}});
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  const int width = terminal_width();
  constexpr int k_left = 24 + 9 + 10 + 9;
  fmt::print("{:<23} {:<8} {:<9} {:>8}  {}\n", "id", "kind", "state", "size", "what [source; licence]");
  for (const Row& row : rows)
    fmt::print("{:<23} {:<8} {:<9} {:>8}  {}\n", row.id, row.kind, row.state,
               row.file_bytes ? human_size(row.file_bytes) : "",
               fit(fmt::format("{} [{}; {}]", row.title, row.source, row.licence),
                   width == 0 ? 0 : std::max(20, width - k_left)));
  fmt::print("\nFolder: {} (BOREL_DATA). Make them: borel data make <id>... or --all\n",
             data_folder().string());
}

std::vector<std::string> wanted_ids(const DataOptions& options, const std::vector<std::string>& of_study) {
  std::vector<std::string> ids = options.names;
  if (options.all)
    for (const Recipe& recipe : recipes())
      if (!recipe.large) ids.push_back(recipe.id);
  ids.insert(ids.end(), of_study.begin(), of_study.end());
  for (const std::string& id : ids)
    if (!find_recipe(id))
      throw DatasetError(fmt::format("no recipe for dataset '{}' (see: borel data list){}", id,
                                     did_you_mean(id, recipe_ids())));
  if (ids.empty() && options.study.empty())
    throw DatasetError("borel data make: name datasets, or give --all or --for <study.toml>");
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void make(const DataOptions& options, Session& session) {
  const StudyNeeds needs = options.study.empty() ? StudyNeeds{} : study_needs(read_study(options.study), {});
  for (const std::string& id : wanted_ids(options, needs.recipes)) {
    const auto start = std::chrono::steady_clock::now();
    try {
      const MadeDataset made = make_dataset(id, data_folder(), options.again);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      fmt::print("{:<23} {}  {}\n", id,
                 made.was_there ? "was there " : fmt::format("made {:4.1f} s", seconds), made.file.string());
    } catch (const DatasetError& error) {
      // The others can still be made; the exit code tells.
      fmt::print(stderr, "borel: error: {}: {}\n", id, error.what());
      session.exit_code = 2;
    }
    std::fflush(stdout);
  }
  if (session.exit_code != 0) return;
  for (const StudyModel& model : needs.models) {
    if (options.again) std::filesystem::remove(model.file);
    if (is_trained(model)) fmt::print("{:<23} was there   {}\n", "model/" + model.name, model.file.string());
  }
  session.exit_code = train_models(session, needs.models, options.time_limit_s, false);
}

void info(const DataOptions& options) {
  const DatasetInfo about = read_dataset_info(file_of(options.names.at(0)));
  const h5::Reader reader(about.path);
  if (options.json) {
    Json arrays = Json::array();
    for (const auto& [name, object] : reader.objects())
      if (!object.is_group)
        arrays.push_back({{"name", name}, {"type", h5::type_name(object.type)}, {"shape", object.shape}});
    const Json out = {{"id", about.id},           {"kind", kind_name(about.kind)},
                      {"title", about.title},     {"source", about.source},
                      {"licence", about.licence}, {"seed", about.seed},
                      {"file", about.path},       {"content_digest", about.content_digest},
                      {"arrays", arrays},         {"size_bytes", about.size_bytes}};
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  fmt::print(
      "{}: {}\n  kind     {}\n  source   {}\n  licence  {}\n  seed     {}\n  file     {}\n  digest   {}\n  "
      "values   {}\n",
      about.id, about.title, kind_name(about.kind), about.source, about.licence, about.seed, about.path,
      about.content_digest, human_size(about.size_bytes));
  for (const auto& [name, object] : reader.objects()) {
    if (!object.is_group)
      fmt::print("  /{:<22} {} [{}]\n", name, h5::type_name(object.type), h5::shape_text(object.shape));
    for (const auto& [key, value] : object.attributes) {
      const std::string owner = name.empty() ? key : name + "." + key;
      if (const auto* text = std::get_if<std::string>(&value)) fmt::print("    {} = {}\n", owner, *text);
      if (const auto* number = std::get_if<double>(&value)) fmt::print("    {} = {}\n", owner, *number);
      if (const auto* integer = std::get_if<std::int64_t>(&value))
        fmt::print("    {} = {}\n", owner, *integer);
    }
  }
}

void verify(const DataOptions& options, Session& session) {
  std::vector<std::string> names = options.names;
  if (options.all) {
    for (const std::string& id : recipe_ids())
      if (std::filesystem::exists(data_folder() / (id + ".h5"))) names.push_back(id);
    for (const std::string& id : imported_ids()) names.push_back(id);
  }
  if (names.empty()) throw DatasetError("borel data verify: name datasets or files, or give --all");
  for (const std::string& name : names) try {
      const std::filesystem::path file = file_of(name);
      if (std::filesystem::is_regular_file(file)) screen_dataset(file);
      fmt::print("{:<23} good  {}\n", name, read_dataset_info(file).content_digest);
    } catch (const DatasetError& error) {
      fmt::print(stderr, "borel: error: {}\n", error.what());
      session.exit_code = 2;
    }
}

void import_files(const DataOptions& options) {
  ImportRequest request;
  request.kind = kind_from(options.kind);
  const std::string& target = options.names.at(0);
  const bool is_file = target.ends_with(".h5");
  request.id = is_file ? std::filesystem::path(target).stem().string() : target;
  if (find_recipe(request.id))
    throw DatasetError(
        fmt::format("'{}' is the id of a recipe: choose another name for your data", request.id));
  if (request.id.empty() ||
      request.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
    throw DatasetError(fmt::format("dataset id '{}': use small letters, digits and '_'", request.id));
  request.inputs.assign(options.names.begin() + 1, options.names.end());
  request.title = options.title;
  request.source = options.source;
  request.licence = options.licence;
  request.columns = options.columns;
  request.test_share = options.test_share;
  for (const std::string& setting : options.settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0)
      throw DatasetError(fmt::format("--set {}: must read <attribute>=<value>", setting));
    request.attributes.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  const std::filesystem::path file =
      is_file ? std::filesystem::path(target) : data_folder() / (target + ".h5");
  if (!options.force && std::filesystem::exists(file))
    throw DatasetError(
        fmt::format("{} exists, and runs may rest on it: choose another name, or replace it with --force",
                    file.string()));
  DatasetWriter writer = import_dataset(request);
  std::error_code ignored;
  if (!is_file) std::filesystem::create_directories(file.parent_path(), ignored);
  const std::string digest = writer.save(file);
  fmt::print("{}  {}\n", file.string(), digest);
}

void capture(const DataOptions& options, Session& session) {
  const std::string& model = options.names.at(0);
  const std::filesystem::path file = options.out;
  // As in a study, `qkv{model=...}`: the same ranges and the same messages.
  MethodSpec spec;
  spec.id = "qkv";
  spec.params = {{"model", model},
                 {"layer", param_text(options.layer)},
                 {"n", param_text(options.n)},
                 {"first", param_text(options.first)}};
  const probe::CaptureOptions chosen = probe::parse_capture(spec);
  DatasetWriter writer =
      probe::capture(*find_dataset(model), chosen, file.stem().string(), session.registry());
  const std::string digest = writer.save(file);
  fmt::print("{}  {}\n", file.string(), digest);
}

void export_files(const DataOptions& options) {
  const auto dataset = find_dataset(options.names.at(0));
  const std::filesystem::path folder = options.out.empty() ? dataset->info().id : options.out;
  const ExportFormat format = options.format == "csv" ? ExportFormat::csv : ExportFormat::npy;
  for (const auto& file : export_dataset(*dataset, options.arrays, format, folder))
    fmt::print("{}\n", file.string());
}

}  // namespace

void add_data(CLI::App& app, Session& session) {
  auto* data = app.add_subcommand("data", "List, make, check, import, capture and export datasets");
  data->require_subcommand(1);
  auto options = std::make_shared<DataOptions>();

  auto* list_command =
      data->add_subcommand("list", "List the datasets that can be made, and those that are there");
  list_command->add_flag("--json", options->json, "Machine-readable");
  list_command->callback([options] { list(*options); });

  auto* make_command =
      data->add_subcommand("make", "Make datasets from their recipes; those that are there are kept");
  make_command->add_option("id", options->names, "Ids, see: borel data list");
  make_command->add_flag("--all", options->all, "All recipes but those of gigabytes");
  make_command
      ->add_option("--for", options->study,
                   "All that a study needs; networks of [[model]] tables are trained")
      ->type_name("STUDY.toml");
  make_command
      ->add_option(
          "--time-limit", options->time_limit_s,
          "Stop training after this many seconds, 0 = never; the same command, without --again, goes on")
      ->check(CLI::NonNegativeNumber);
  make_command->add_flag("--again", options->again, "Make anew what is there, networks of a study too");
  make_command->callback([options, &session] { make(*options, session); });

  auto* info_command = data->add_subcommand("info", "Show a dataset's origin, arrays and attributes");
  info_command->add_option("dataset", options->names, "Id or file")->required()->expected(1);
  info_command->add_flag("--json", options->json, "Machine-readable");
  info_command->callback([options] { info(*options); });

  auto* verify_command = data->add_subcommand("verify", "Read every value and compare the content digest");
  verify_command->add_option("dataset", options->names, "Ids or files");
  verify_command->add_flag("--all", options->all, "All that are there");
  verify_command->callback([options, &session] { verify(*options, session); });

  auto* import_command =
      data->add_subcommand("import", "Make a dataset of your own from CSV, NPY, PNG or text files");
  import_command
      ->add_option(
          "id_and_inputs", options->names,
          "New id (or a file name that ends in .h5), then input files, each <file> or <array>=<file>")
      ->required()
      ->expected(2, 10000);
  import_command->add_option("--kind", options->kind, "samples, qkv, tokens, images or problem")->required();
  import_command->add_option("--column", options->columns,
                             "CSV columns to take, by name or number; all when left out");
  import_command->add_option("--title", options->title, "One line about it");
  import_command->add_option("--source", options->source, "Where it is from");
  import_command->add_option("--licence", options->licence, "Under which terms");
  import_command->add_option("--test-share", options->test_share,
                             "tokens from one file: share of the end kept as test");
  import_command
      ->add_option("--set", options->settings, "Root attribute, for instance objective=least_squares")
      ->type_name("NAME=VALUE");
  import_command->add_flag("--force", options->force, "Replace a dataset of that name");
  import_command->callback([options] { import_files(*options); });

  auto* capture_command = data->add_subcommand(
      "capture", "Store the queries, keys and values of a trained network's layer (kind qkv)");
  capture_command->add_option("model", options->names, "Id or file")->required()->expected(1);
  capture_command->add_option("-o,--out", options->out, "File (.h5)")->required();
  capture_command->add_option("--layer", options->layer, "Layer, from 0");
  capture_command->add_option("-n", options->n, "Bytes that are read; default the training length");
  capture_command->add_option("--first", options->first, "Byte of the held-out text to begin at");
  capture_command->callback([options, &session] { capture(*options, session); });

  auto* export_command = data->add_subcommand("export", "Write arrays of a dataset as NPY or CSV files");
  export_command->add_option("dataset", options->names, "Id or file")->required()->expected(1);
  export_command->add_option("--array", options->arrays, "Arrays; all when left out");
  export_command->add_option("--format", options->format, "npy or csv")->check(CLI::IsMember({"npy", "csv"}));
  export_command->add_option("-o,--out", options->out, "Folder; the dataset's id when left out");
  export_command->callback([options] { export_files(*options); });
}

}  // namespace borel::app
