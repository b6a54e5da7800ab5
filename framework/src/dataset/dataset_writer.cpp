#include "dataset/dataset_writer.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "dataset/digest.hpp"
#include "dataset/value_rules.hpp"

namespace borel {
namespace {

/// Whole rows, about 8 MB at a time: look(first row, values).
void for_each_block(const GeneratedDoubles& values, const h5::Shape& shape,
                    const std::function<void(std::int64_t, std::span<const double>)>& look) {
  constexpr std::int64_t k_block_values = 1 << 20;
  std::int64_t row = 1;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) row *= shape[axis];
  const std::int64_t n_rows = row > 0 ? shape.at(0) : 0,
                     block = std::max<std::int64_t>(1, k_block_values / std::max<std::int64_t>(1, row));
  std::vector<double> buffer;
  for (std::int64_t first = 0; first < n_rows; first += block) {
    buffer.resize(static_cast<std::size_t>(std::min(block, n_rows - first) * row));
    values.fill(first * row, buffer);
    look(first, buffer);
  }
}

}  // namespace

DatasetWriter::DatasetWriter(DatasetKind kind, std::string_view id, std::string_view title,
                             std::string_view source, std::string_view licence, std::uint64_t seed) {
  objects_[""].is_group = true;
  attribute("", "borel_schema", schema_text(kind));
  attribute("", "borel_version", std::string(BOREL_VERSION));
  attribute("", "id", std::string(id));
  attribute("", "title", std::string(title));
  attribute("", "source", std::string(source));
  attribute("", "licence", std::string(licence));
  attribute("", "seed", static_cast<std::int64_t>(seed));
  attribute("", "content_digest", std::string());
}

void DatasetWriter::make_parents(std::string_view path) {
  for (std::size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/', slash + 1))
    objects_.try_emplace(std::string(path.substr(0, slash)), h5::Object{.is_group = true});
}

void DatasetWriter::declare(std::string_view path, h5::ElementType type, std::size_t element_bytes,
                            h5::Shape shape) {
  h5::Object object{.type = type, .shape = std::move(shape), .count = 1};
  for (std::int64_t extent : object.shape) object.count *= extent;
  object.size_bytes = static_cast<std::uint64_t>(object.count) * element_bytes;
  make_parents(path);
  if (!objects_.emplace(path, std::move(object)).second)
    throw DatasetError(fmt::format("array /{} is given twice", path));
}

template <class T>
void DatasetWriter::array(std::string_view path, std::vector<T> values, h5::Shape shape) {
  std::int64_t count = 1;
  for (std::int64_t extent : shape) count *= extent;
  if (count != static_cast<std::int64_t>(values.size()))
    throw DatasetError(fmt::format("array /{}: {} values do not fill the shape {}", path, values.size(),
                                   h5::shape_text(shape)));
  declare(path, h5::element_type_of<T>(), sizeof(T), std::move(shape));
  values_.emplace(path, std::move(values));
}

void DatasetWriter::array(std::string_view path, GeneratedDoubles values, h5::Shape shape) {
  declare(path, h5::ElementType::float64, sizeof(double), std::move(shape));
  generated_.emplace(path, std::move(values));
}

template void DatasetWriter::array(std::string_view, std::vector<double>, h5::Shape);
template void DatasetWriter::array(std::string_view, std::vector<float>, h5::Shape);
template void DatasetWriter::array(std::string_view, std::vector<std::int64_t>, h5::Shape);
template void DatasetWriter::array(std::string_view, std::vector<std::uint8_t>, h5::Shape);

void DatasetWriter::attribute(std::string_view object, std::string_view name, h5::AttributeValue value) {
  make_parents(object);
  const auto owner = objects_.try_emplace(std::string(object), h5::Object{.is_group = true}).first;
  owner->second.attributes[std::string(name)] = std::move(value);
}

std::string DatasetWriter::seal() {
  const auto id = std::get<std::string>(objects_.at("").attributes.at("id"));
  const DatasetKind kind = check_schema(objects_, id);
  if (kind != DatasetKind::results)
    for (const auto& [path, values] : values_) {
      if (const auto* doubles = std::get_if<std::vector<double>>(&values)) check_finite(*doubles, id, path);
      if (const auto* floats = std::get_if<std::vector<float>>(&values)) check_finite(*floats, id, path);
    }
  const ValueSource source{
      objects_,
      [&](std::string_view name) {
        return std::span<const double>(std::get<std::vector<double>>(values_.find(name)->second));
      },
      [&](std::string_view name) {
        return std::span<const std::int64_t>(std::get<std::vector<std::int64_t>>(values_.find(name)->second));
      }};
  check_values(kind, source, id);

  ContentDigest digest;
  for (const auto& [path, about] : objects_) {
    if (about.is_group && about.attributes.empty()) continue;
    if (about.is_group) {
      digest.begin_group(path);
    } else {
      digest.begin_array(path, about.type, about.shape);
      if (const auto made = generated_.find(path); made != generated_.end())
        for_each_block(made->second, about.shape,
                       [&, &name = path](std::int64_t, std::span<const double> block) {
                         check_finite(block, id, name);
                         digest.values(std::as_bytes(block));
                       });
      else
        std::visit([&](const auto& list) { digest.values(std::as_bytes(std::span(list))); },
                   values_.at(path));
    }
    for (const auto& [name, value] : about.attributes) digest.attribute(path, name, value);
  }
  const std::string text = digest.finish();
  attribute("", "content_digest", text);
  return text;
}

std::string DatasetWriter::save(const std::filesystem::path& file) {
  const std::string digest = seal();
  h5::Writer writer(file);
  for (const auto& [path, about] : objects_) {
    if (about.is_group) {
      writer.group(path);
    } else {
      if (const auto made = generated_.find(path); made != generated_.end()) {
        writer.declare(path, h5::ElementType::float64, about.shape, h5::Packing::plain);
        for_each_block(made->second, about.shape,
                       [&writer, &name = path](std::int64_t first, std::span<const double> block) {
                         writer.write_rows(name, first, block);
                       });
      } else {
        std::visit([&writer, &name = path, &shape = about.shape]<class T>(
                       const std::vector<T>& list) { writer.array(name, std::span<const T>(list), shape); },
                   values_.at(path));
      }
    }
    for (const auto& [name, value] : about.attributes) writer.attribute(path, name, value);
  }
  writer.commit();
  return digest;
}

}  // namespace borel
