#include "dataset/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <variant>

#include "dataset/dataset_writer.hpp"
#include "dataset/digest.hpp"
#include "dataset/value_rules.hpp"

namespace borel {
namespace {

std::string text_of(const Objects& objects, const char* name) {
  return std::get<std::string>(objects.find("")->second.attributes.at(name));
}

DatasetInfo info_from(const Objects& objects, DatasetKind kind, const std::filesystem::path& file) {
  DatasetInfo info;
  info.kind = kind;
  info.path = file.string();
  info.id = text_of(objects, "id");
  info.title = text_of(objects, "title");
  info.source = text_of(objects, "source");
  info.licence = text_of(objects, "licence");
  info.content_digest = text_of(objects, "content_digest");
  info.schema_version = k_schema_version;
  const h5::AttributeValue& seed = objects.find("")->second.attributes.at("seed");
  if (const auto* value = std::get_if<std::int64_t>(&seed)) info.seed = static_cast<std::uint64_t>(*value);
  for (const auto& [path, object] : objects) {
    if (object.is_group) continue;
    info.facts.emplace_back(path,
                            fmt::format("{} [{}]", h5::type_name(object.type), h5::shape_text(object.shape)));
    info.size_bytes += object.size_bytes;
  }
  return info;
}

}  // namespace

struct Dataset::State {
  using Values = DatasetWriter::Values;
  struct Slot {
    std::once_flag once;
    Values values;
  };

  DatasetInfo info;
  Objects objects;
  std::optional<h5::Reader> reader;                // empty for datasets that live in memory
  std::map<std::string, Slot, std::less<>> slots;  // one per numeric array; made once, then only filled
};

Dataset::Dataset(std::unique_ptr<State> state) : state_(std::move(state)) {
  for (const auto& [path, object] : state_->objects)
    if (!object.is_group && object.type != h5::ElementType::string) state_->slots.try_emplace(path);
}

Dataset::~Dataset() = default;

std::shared_ptr<const Dataset> Dataset::open(const std::filesystem::path& file) {
  auto state = std::make_unique<State>();
  state->reader.emplace(file);
  state->objects = state->reader->objects();
  const DatasetKind kind = check_schema(state->objects, file.string());
  state->info = info_from(state->objects, kind, file);
  std::shared_ptr<const Dataset> dataset(new Dataset(std::move(state)));
  if (dataset->info().size_bytes <= k_verify_on_open_bytes) dataset->verify();
  return dataset;
}

std::shared_ptr<const Dataset> Dataset::from(const DatasetWriter& contents) {
  DatasetWriter sealed = contents;
  sealed.seal();
  auto state = std::make_unique<State>();
  state->objects = sealed.objects();
  state->info = info_from(state->objects, check_schema(state->objects, "dataset in memory"), {});
  auto* dataset = new Dataset(std::move(state));
  std::shared_ptr<const Dataset> shared(dataset);
  for (const auto& [path, values] : sealed.values()) {
    State::Slot& slot = dataset->state_->slots.find(path)->second;
    std::call_once(slot.once, [&, &loaded = values] { slot.values = loaded; });
  }
  for (const auto& [path, values] : sealed.generated()) {
    State::Slot& slot = dataset->state_->slots.find(path)->second;
    std::vector<double> all(static_cast<std::size_t>(sealed.objects().at(path).count));
    values.fill(0, all);
    std::call_once(slot.once, [&] { slot.values = std::move(all); });
  }
  return shared;
}

void Dataset::verify() const {
  const State& state = *state_;
  if (!state.reader) return;  // made and sealed by this process
  for (const auto& [path, slot] : state.slots) {
    switch (state.objects.find(path)->second.type) {
      case h5::ElementType::float64:
        if (state.objects.find(path)->second.size_bytes <= k_verify_on_open_bytes)
          doubles(path);
        else
          check_rows(path);
        break;
      case h5::ElementType::float32:
        floats(path);
        break;
      case h5::ElementType::int64:
        integers(path);
        break;
      case h5::ElementType::uint8:
        bytes(path);
        break;
      case h5::ElementType::string:
        break;
    }
  }
  check_values(state.info.kind,
               {state.objects, [this](std::string_view name) { return doubles(name); },
                [this](std::string_view name) { return integers(name); }},
               state.info.path);
  const std::string found = content_digest(*state.reader);
  if (found != state.info.content_digest)
    throw DatasetError(
        fmt::format("{}: the content digest does not match: the file says {}, its values give {}; the "
                    "file was changed after it was made: make it again",
                    state.info.path, state.info.content_digest, found));
}

void Dataset::check_rows(std::string_view name) const {
  constexpr std::int64_t k_block_values = 1 << 20;
  const h5::Object& object = state_->objects.find(name)->second;
  const std::int64_t n_rows = object.shape[0], row = object.count / n_rows,
                     block = std::max<std::int64_t>(1, k_block_values / row);
  std::vector<double> buffer;
  for (std::int64_t first = 0; first < n_rows; first += block) {
    buffer.resize(static_cast<std::size_t>(std::min(block, n_rows - first) * row));
    read_rows(name, first, buffer);
    if (state_->info.kind != DatasetKind::results) check_finite(buffer, state_->info.path, name);
  }
}

const DatasetInfo& Dataset::info() const { return state_->info; }

bool Dataset::has(std::string_view name) const { return state_->objects.find(name) != state_->objects.end(); }

template <class T>
std::span<const T> Dataset::values(std::string_view name) const {
  State& state = *state_;
  const auto found = state.slots.find(name);
  if (found == state.slots.end()) {
    std::vector<std::string> known;
    for (const auto& [path, slot] : state.slots) known.push_back(path);
    throw DatasetError(fmt::format("{}: no array /{}{}", state.info.path, name, did_you_mean(name, known)));
  }
  const h5::ElementType type = state.objects.find(name)->second.type;
  if (type != h5::element_type_of<T>())
    throw DatasetError(fmt::format("{}: array /{} has elements of type {}, asked for {}", state.info.path,
                                   name, h5::type_name(type), h5::type_name(h5::element_type_of<T>())));
  State::Slot& slot = found->second;
  std::call_once(slot.once, [&] {
    std::vector<T> loaded = state.reader->read<T>(name);
    if constexpr (std::is_floating_point_v<T>)
      if (state.info.kind != DatasetKind::results) check_finite(loaded, state.info.path, name);
    slot.values = std::move(loaded);
  });
  return std::get<std::vector<T>>(slot.values);
}

void Dataset::read_rows(std::string_view name, std::int64_t first_row, std::span<double> out) const {
  const State& state = *state_;
  if (!state.reader) {
    const std::span<const double> all = doubles(name);
    const std::vector<std::int64_t> extent = shape(name);
    const std::size_t row = extent[0] > 0 ? all.size() / static_cast<std::size_t>(extent[0]) : 0;
    const std::size_t first = static_cast<std::size_t>(first_row) * row;
    if (first_row < 0 || first > all.size() || out.size() > all.size() - first)
      throw DatasetError(
          fmt::format("{}: array /{} has {} rows, row {} and {} values from there were asked for",
                      state.info.id, name, extent[0], first_row, out.size()));
    std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(first), out.size(), out.begin());
    return;
  }
  state.reader->read_rows(name, first_row, out);
}

std::span<const double> Dataset::doubles(std::string_view name) const { return values<double>(name); }
std::span<const float> Dataset::floats(std::string_view name) const { return values<float>(name); }
std::span<const std::uint8_t> Dataset::bytes(std::string_view name) const {
  return values<std::uint8_t>(name);
}
std::span<const std::int64_t> Dataset::integers(std::string_view name) const {
  return values<std::int64_t>(name);
}

std::vector<std::int64_t> Dataset::shape(std::string_view name) const {
  const auto found = state_->objects.find(name);
  if (found == state_->objects.end() || found->second.is_group)
    throw DatasetError(fmt::format("{}: no array /{}", state_->info.path, name));
  return found->second.shape;
}

std::vector<std::string> Dataset::children(std::string_view group) const {
  const std::string prefix = group.empty() ? "" : std::string(group) + "/";
  std::vector<std::string> names;
  for (const auto& [name, object] : state_->objects)
    if (name.size() > prefix.size() && name.starts_with(prefix) &&
        name.find('/', prefix.size()) == std::string::npos)
      names.push_back(name.substr(prefix.size()));
  return names;
}

bool Dataset::has_attribute(std::string_view object, std::string_view name) const {
  const auto found = state_->objects.find(object);
  return found != state_->objects.end() && found->second.attributes.contains(std::string(name));
}

std::string Dataset::attribute(std::string_view object, std::string_view name) const {
  if (has_attribute(object, name)) {
    const h5::AttributeValue& value = state_->objects.find(object)->second.attributes.at(std::string(name));
    if (const auto* text = std::get_if<std::string>(&value)) return *text;
  }
  throw DatasetError(
      fmt::format("{}: object /{} has no text attribute '{}'", state_->info.path, object, name));
}

double Dataset::number(std::string_view object, std::string_view name) const {
  if (has_attribute(object, name)) {
    const h5::AttributeValue& value = state_->objects.find(object)->second.attributes.at(std::string(name));
    if (const auto* number = std::get_if<double>(&value)) return *number;
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  }
  throw DatasetError(
      fmt::format("{}: object /{} has no numeric attribute '{}'", state_->info.path, object, name));
}

std::int64_t Dataset::integer(std::string_view object, std::string_view name, std::int64_t least,
                              std::int64_t most) const {
  assert(most <= std::int64_t{1} << std::numeric_limits<double>::digits);
  const double value = number(object, name);
  if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) ||
      value != std::floor(value))
    throw DatasetError(
        fmt::format("{}: attribute '{}' of object /{} must be a whole number from {} to {}, it is {}",
                    state_->info.path, name, object, least, most, value));
  return static_cast<std::int64_t>(value);
}

DatasetInfo read_dataset_info(const std::filesystem::path& file) {
  const h5::Reader reader(file);
  return info_from(reader.objects(), check_schema(reader.objects(), file.string()), file);
}

}  // namespace borel
