#include "dataset/import_export.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>

#include "dataset/csv.hpp"
#include "dataset/distribution_package.hpp"
#include "dataset/npy.hpp"
#include "dataset/png.hpp"

namespace borel {
namespace {

struct Input {
  std::string array;  // empty: the kind decides
  std::filesystem::path file;
  std::string extension;
};

Input parse_input(const std::string& text) {
  const std::size_t equals = text.find('=');
  const bool named = equals != std::string::npos && !std::filesystem::exists(text);
  Input input{named ? text.substr(0, equals) : "", named ? text.substr(equals + 1) : text, ""};
  input.extension = input.file.extension().string();
  std::transform(input.extension.begin(), input.extension.end(), input.extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return input;
}

NpyArray table_from(const CsvTable& table, const std::vector<std::string>& wanted, bool flatten,
                    const std::string& who) {
  std::vector<std::size_t> columns;
  for (const std::string& name : wanted) columns.push_back(table.column(name, who));
  if (wanted.empty())
    for (std::size_t i = 0; i < table.columns.size(); ++i) columns.push_back(i);
  std::vector<double> values;
  for (std::int64_t row = 0; row < table.rows; ++row)
    for (std::size_t column : columns)
      values.push_back(table.values[static_cast<std::size_t>(row) * table.columns.size() + column]);
  h5::Shape shape{table.rows, static_cast<std::int64_t>(columns.size())};
  if (flatten && columns.size() == 1) shape.pop_back();
  return {h5::ElementType::float64, std::move(shape), std::move(values)};
}

NpyArray bytes_from(std::string_view text) {
  return {h5::ElementType::uint8,
          {static_cast<std::int64_t>(text.size())},
          std::vector<std::uint8_t>(text.begin(), text.end())};
}

NpyArray load(const Input& input, const ImportRequest& request) {
  const std::string who = input.file.string(), text = read_file(input.file);
  if (input.extension == ".csv" || input.extension == ".tsv")
    return table_from(parse_csv(text, who), request.columns, request.kind == DatasetKind::problem, who);
  if (input.extension == ".npy") return parse_npy(text, who);
  if (input.extension == ".png") {
    Image image = decode_png(text, who);
    return {h5::ElementType::uint8, {image.height, image.width, image.channels}, std::move(image.pixels)};
  }
  if (request.kind == DatasetKind::tokens) return bytes_from(text);
  throw DatasetError(
      fmt::format("{}: extension '{}' is not one of .csv .tsv .npy .png; only kind tokens takes any file",
                  who, input.extension));
}

// float64 and float32 into each other and integers into either; never a float into an integer.
template <class T>
std::vector<T> converted(const DatasetWriter::Values& values) {
  std::vector<T> out;
  std::visit(
      [&](const auto& list) {
        for (const auto& v : list) out.push_back(static_cast<T>(v));
      },
      values);
  return out;
}

/// Text from a table or an array of numbers: one byte each.
std::vector<std::uint8_t> text_bytes(const NpyArray& array, const std::string& who) {
  if (array.type == h5::ElementType::uint8) return std::get<std::vector<std::uint8_t>>(array.values);
  for (const double number : converted<double>(array.values))
    if (!(number >= 0 && number <= 255) || number != std::floor(number))
      throw DatasetError(
          fmt::format("{}: a text is made of bytes, whole numbers from 0 to 255; it has {}", who, number));
  return converted<std::uint8_t>(array.values);
}

void put(DatasetWriter& writer, const std::string& name, NpyArray array, DatasetKind kind) {
  const bool index = name.starts_with("split/") || name == "grid/n_cells";
  if (index && array.type != h5::ElementType::int64) {
    auto numbers = converted<double>(array.values);
    for (double number : numbers)
      if (number != std::nearbyint(number) || std::abs(number) > 9e15)
        throw DatasetError(fmt::format("array /{} must hold whole numbers, it has {}", name, number));
    array.values = converted<std::int64_t>(array.values);
    if (array.shape.size() == 2 && array.shape[1] == 1) array.shape.pop_back();
  } else if (kind == DatasetKind::qkv && !name.starts_with("truth/")) {
    array.values = converted<float>(array.values);
  } else if (!index && kind != DatasetKind::tokens && kind != DatasetKind::images) {
    array.values = converted<double>(array.values);
  }
  if (kind == DatasetKind::samples && (name == "x" || name == "test/x") && array.shape.size() == 1)
    array.shape.push_back(1);
  if (kind == DatasetKind::samples && name == "weights" && array.shape.size() == 2 && array.shape[1] == 1)
    array.shape.pop_back();
  if (kind == DatasetKind::qkv && array.shape.size() == 2 && !name.starts_with("truth/"))
    array.shape.insert(array.shape.begin(), 1);
  if (kind == DatasetKind::images && name != "images" && array.shape.size() == 2) array.shape.push_back(1);
  std::visit([&]<class T>(std::vector<T>& list) { writer.array(name, std::move(list), array.shape); },
             array.values);
}

std::string default_name(const Input& input, DatasetKind kind, const std::set<std::string>& taken) {
  switch (kind) {
    case DatasetKind::samples:
      return taken.contains("x") ? "test/x" : "x";
    case DatasetKind::images:
      return input.file.stem().string();
    case DatasetKind::tokens:
      return taken.contains("train") ? "test" : "train";
    default:
      break;
  }
  throw DatasetError(
      fmt::format("{}: kind {} needs the array's name: <array>={}; datasets/README.md lists the arrays",
                  input.file.string(), kind_name(kind), input.file.string()));
}

h5::AttributeValue attribute_value(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && std::isfinite(number)) return number;
  return text;
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream.write(text.data(), static_cast<std::streamsize>(text.size()));
  stream.flush();
  if (!stream) throw DatasetError(fmt::format("{}: cannot write the file", file.string()));
}

std::string csv_of(const Dataset& dataset, const std::string& array, const h5::Shape& shape,
                   std::vector<double> values) {
  if (shape.empty() || shape.size() > 2)
    throw DatasetError(fmt::format("{}: array /{} has shape [{}]; CSV holds rank 1 and 2: export it as npy",
                                   dataset.info().id, array, h5::shape_text(shape)));
  std::vector<std::string> columns;
  for (std::int64_t i = 0; i < (shape.size() == 2 ? shape[1] : 1); ++i)
    columns.push_back(shape.size() == 2 && shape[1] > 1 ? fmt::format("{}_{}", array, i + 1) : array);
  return csv_text(columns, values);
}

}  // namespace

DatasetWriter import_dataset(const ImportRequest& request) {
  if (request.kind == DatasetKind::model || request.kind == DatasetKind::results)
    throw DatasetError(
        fmt::format("kind {} is written by the program only; import samples, qkv, tokens, images or problem",
                    kind_name(request.kind)));
  if (request.inputs.empty()) throw DatasetError("import: no input file given");
  const auto or_unknown = [](const std::string& text) {
    return text.empty() ? std::string("unknown") : text;
  };
  DatasetWriter writer(request.kind, request.id, request.title.empty() ? request.id : request.title,
                       or_unknown(request.source), or_unknown(request.licence));
  std::set<std::string> taken;
  for (const std::string& text : request.inputs) {
    const Input input = parse_input(text);
    const std::string name = input.array.empty() ? default_name(input, request.kind, taken) : input.array;
    taken.insert(name);
    NpyArray array = load(input, request);
    if (request.kind == DatasetKind::tokens && request.inputs.size() == 1 && name == "train") {
      const auto all = text_bytes(array, input.file.string());
      if (!(request.test_share > 0 && request.test_share < 1))
        throw DatasetError(
            fmt::format("the test share must lie between 0 and 1, it is {}", request.test_share));
      const auto n_test =
          std::max<std::int64_t>(1, std::llround(request.test_share * static_cast<double>(all.size())));
      const auto cut = all.end() - std::min<std::int64_t>(n_test, static_cast<std::int64_t>(all.size()));
      const std::vector<std::uint8_t> train(all.begin(), cut), test(cut, all.end());
      writer.array("train", train, {static_cast<std::int64_t>(train.size())});
      writer.array("test", test, {static_cast<std::int64_t>(test.size())});
    } else {
      put(writer, name, std::move(array), request.kind);
    }
  }
  for (const auto& [key, value] : request.attributes) writer.attribute("", key, attribute_value(value));
  if (request.kind == DatasetKind::problem && !writer.objects().at("").attributes.contains("domain"))
    writer.attribute("", "domain", std::string("simplex"));
  writer.seal();
  return writer;
}

std::vector<std::filesystem::path> export_dataset(const Dataset& dataset,
                                                  const std::vector<std::string>& arrays, ExportFormat format,
                                                  const std::filesystem::path& folder) {
  std::vector<std::string> names = arrays;
  if (names.empty())
    for (const auto& [name, fact] : dataset.info().facts) names.push_back(name);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) {
    std::string file_name = name;
    std::replace(file_name.begin(), file_name.end(), '/', '_');
    const h5::Shape shape = dataset.shape(name);
    std::string text;
    const auto render = [&]<class T>(std::span<const T> values) {
      text = format == ExportFormat::npy
                 ? npy_bytes<T>(values, shape)
                 : csv_of(dataset, name, shape, std::vector<double>(values.begin(), values.end()));
    };
    const auto& facts = dataset.info().facts;
    const auto fact =
        std::find_if(facts.begin(), facts.end(), [&](const auto& item) { return item.first == name; });
    if (fact->second.starts_with("float64")) render(dataset.doubles(name));
    if (fact->second.starts_with("float32")) render(dataset.floats(name));
    if (fact->second.starts_with("int64")) render(dataset.integers(name));
    if (fact->second.starts_with("uint8")) render(dataset.bytes(name));
    if (fact->second.starts_with("string")) continue;
    files.push_back(folder / (file_name + (format == ExportFormat::npy ? ".npy" : ".csv")));
    write_text(files.back(), text);
  }
  return files;
}

}  // namespace borel
