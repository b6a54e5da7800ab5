#include "dataset/schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <utility>

namespace borel {
namespace {

using h5::ElementType;

constexpr std::array<std::pair<DatasetKind, std::string_view>, 7> k_kinds{{
    {DatasetKind::samples, "samples"},
    {DatasetKind::qkv, "qkv"},
    {DatasetKind::tokens, "tokens"},
    {DatasetKind::images, "images"},
    {DatasetKind::problem, "problem"},
    {DatasetKind::model, "model"},
    {DatasetKind::results, "results"},
}};

// One array of a schema. `axes` names its extents; the same name must have the same length everywhere in the
// file.
struct ArrayRule {
  std::string_view path;
  ElementType type;
  std::string_view axes;
  bool required = true;
};

constexpr auto f64 = ElementType::float64;
constexpr auto f32 = ElementType::float32;
constexpr auto i64 = ElementType::int64;
constexpr auto u8 = ElementType::uint8;

const std::vector<ArrayRule> k_samples{
    {"x", f64, "n d"},
    {"weights", f64, "n", false},
    {"split/train", i64, "n_train", false},
    {"split/test", i64, "n_test", false},
    {"test/x", f64, "n_held_out d", false},
    {"truth/weight", f64, "n_components", false},
    {"truth/mean", f64, "n_components", false},
    {"truth/sd", f64, "n_components", false},
    {"truth/mode", f64, "n_modes", false},
    {"truth/grid", f64, "n_grid", false},
    {"truth/log_pdf", f64, "n_grid", false},
    {"truth/test_log_pdf", f64, "n_held_out", false},
    {"truth/conditional_pmf", f64, "n_held_out n_bins", false},
    {"truth/bin_centre", f64, "n_bins", false},
};

const std::vector<ArrayRule> k_qkv{
    {"q", f32, "h_q n_q d_k"},
    {"k", f32, "h_kv n_k d_k"},
    {"v", f32, "h_kv n_k d_v"},
    {"truth/beta", f64, "h_q n_q", false},
    {"truth/gamma", f64, "h_q n_q", false},
    {"truth/s_softmax", f64, "h_q n_q", false},
    {"truth/s_relu2", f64, "h_q n_q", false},
    {"truth/s_identity", f64, "h_q n_q", false},
};

const std::vector<ArrayRule> k_tokens{
    {"train", u8, "n_train"},
    {"test", u8, "n_test"},
    {"validation", u8, "n_validation", false},
    {"target/train", u8, "n_train", false},
    {"target/validation", u8, "n_validation", false},
    {"target/test", u8, "n_test", false},
};

struct ObjectiveRule {
  std::string name;
  std::vector<ArrayRule> arrays;
  std::vector<std::string_view> numbers;  // root attributes
  std::vector<std::string> texts{};       // root attributes
};

const std::vector<ObjectiveRule>& objectives() {
  static const std::vector<ObjectiveRule> rules{
      {"least_squares", {{"a", f64, "m n"}, {"b", f64, "m"}}, {}},
      {"projection", {{"x", f64, "n"}}, {}},
      {"linear_entropy", {{"c", f64, "n"}}, {"epsilon"}},
      {"kl", {{"target", f64, "n"}}, {}},
      {"cross_entropy", {{"target", f64, "n"}}, {}},
      {"mixture", {{"likelihood", f64, "m n"}}, {}},
      {"sparse_mixture",
       {{"begin", i64, "n_plus_1"}, {"row", i64, "n_values"}, {"value", f64, "n_values"}},
       {"n_rows"}},
      {"max_entropy_moments", {{"moments", f64, "m n"}, {"b", f64, "m"}}, {}},
      {"d_optimal", {{"features", f64, "n d"}}, {}},
      {"max_entropy", {{"moments", f64, "m n"}, {"b", f64, "m"}}, {"penalty"}},
      {"mmd", {{"kernel", f64, "n n"}, {"z", f64, "n"}}, {"constant"}},
      {"markowitz", {{"covariance", f64, "n n"}, {"mean", f64, "n"}}, {"risk_tolerance"}},
      {"transport",
       {{"cost", f64, "n_source n_target"}, {"a", f64, "n_source"}, {"b", f64, "n_target"}},
       {"epsilon"}},
      {"free_energy",
       {{"grid/begin", f64, "d", false},
        {"grid/end", f64, "d", false},
        {"grid/n_cells", i64, "d", false},
        {"start", f64, "n_cells", false},
        {"particles", f64, "n_particles d", false},
        {"potential/centre", f64, "d", false},
        {"potential/precision", f64, "d d", false},
        {"potential/weight", f64, "n_components", false},
        {"potential/mean", f64, "n_components d", false},
        {"potential/sd", f64, "n_components", false}},
       {"diffusion", "power"},
       {"potential", "interaction"}},
  };
  return rules;
}

const h5::AttributeValue* find_attribute(const Objects& objects, std::string_view object,
                                         const std::string& name) {
  const auto owner = objects.find(object);
  if (owner == objects.end()) return nullptr;
  const auto found = owner->second.attributes.find(name);
  return found == owner->second.attributes.end() ? nullptr : &found->second;
}

const std::string& required_text(const Objects& objects, const std::string& name, const std::string& who) {
  const h5::AttributeValue* value = find_attribute(objects, "", name);
  const auto* text = value ? std::get_if<std::string>(value) : nullptr;
  if (!text) throw DatasetError(fmt::format("{}: the root attribute '{}' (text) is missing", who, name));
  return *text;
}

void require_number(const Objects& objects, std::string_view name, const std::string& who,
                    std::string_view why) {
  const h5::AttributeValue* value = find_attribute(objects, "", std::string(name));
  if (!value || !(std::holds_alternative<double>(*value) || std::holds_alternative<std::int64_t>(*value)))
    throw DatasetError(fmt::format("{}: the root attribute '{}' (a number) is missing; {}", who, name, why));
}

// Binds axis names to lengths while it checks array after array.
class ShapeCheck {
 public:
  ShapeCheck(const Objects& objects, std::string who) : objects_(objects), who_(std::move(who)) {}

  void check(const std::vector<ArrayRule>& rules) {
    for (const ArrayRule& rule : rules) check(rule);
  }

  std::int64_t length(std::string_view axis) const {
    const auto found = lengths_.find(std::string(axis));
    return found == lengths_.end() ? 0 : found->second.first;
  }

 private:
  void check(const ArrayRule& rule) {
    const auto found = objects_.find(rule.path);
    if (found == objects_.end()) {
      if (!rule.required) return;
      std::vector<std::string> known;
      for (const auto& [name, object] : objects_)
        if (!object.is_group) known.push_back(name);
      throw DatasetError(fmt::format("{}: array /{} [{}] {} is missing{}", who_, rule.path, rule.axes,
                                     h5::type_name(rule.type), did_you_mean(rule.path, known)));
    }
    const h5::Object& object = found->second;
    if (object.is_group)
      throw DatasetError(fmt::format("{}: /{} must be an array, it is a group", who_, rule.path));
    if (object.type != rule.type)
      throw DatasetError(fmt::format("{}: array /{} must have elements of type {}, it has {}", who_,
                                     rule.path, h5::type_name(rule.type), h5::type_name(object.type)));
    std::istringstream axes{std::string(rule.axes)};
    std::vector<std::string> names;
    for (std::string axis; axes >> axis;) names.push_back(axis);
    if (names.size() != object.shape.size())
      throw DatasetError(fmt::format("{}: array /{} must have shape [{}], it has {}", who_, rule.path,
                                     rule.axes, h5::shape_text(object.shape)));
    for (std::size_t i = 0; i < names.size(); ++i) bind(rule.path, names[i], object.shape[i]);
  }

  void bind(std::string_view path, const std::string& axis, std::int64_t length) {
    if (length == 0)
      throw DatasetError(fmt::format("{}: array /{} is empty: axis {} has length 0", who_, path, axis));
    const auto [entry, is_new] = lengths_.try_emplace(axis, length, path);
    if (!is_new && entry->second.first != length)
      throw DatasetError(fmt::format("{}: array /{} has {} = {}, but {} = {} by array /{}", who_, path, axis,
                                     length, axis, entry->second.first, entry->second.second));
  }

  const Objects& objects_;
  std::string who_;
  std::map<std::string, std::pair<std::int64_t, std::string>> lengths_;
};

void check_images(const Objects& objects, const std::string& who) {
  int n = 0;
  for (const auto& [name, object] : objects) {
    if (object.is_group) continue;
    const std::size_t rank = name == "images" ? 4 : 3;
    const bool channels =
        object.shape.size() == rank && (object.shape.back() == 1 || object.shape.back() == 3);
    if (object.type != u8 || !channels || object.count == 0)
      throw DatasetError(fmt::format(
          "{}: image array /{} must be uint8 [{}height width channels] with 1 or 3 channels, "
          "it is {} [{}]",
          who, name, rank == 4 ? "n " : "", h5::type_name(object.type), h5::shape_text(object.shape)));
    ++n;
  }
  if (n == 0) throw DatasetError(fmt::format("{}: no image: store /images or one array per image", who));
}

void check_problem(const Objects& objects, ShapeCheck& shapes, const std::string& who) {
  const std::string& objective = required_text(objects, "objective", who);
  const std::string& domain = required_text(objects, "domain", who);
  const std::vector<std::string> domains{"simplex", "grid", "particles"};
  if (std::find(domains.begin(), domains.end(), domain) == domains.end())
    throw DatasetError(fmt::format("{}: domain '{}' is not one of simplex, grid, particles{}", who, domain,
                                   did_you_mean(domain, domains)));
  if (objective.starts_with("problem/")) return;  // a plugin, which has no arrays here
  for (const ObjectiveRule& rule : objectives()) {
    if (rule.name != objective) continue;
    shapes.check(rule.arrays);
    if (domain == "simplex") shapes.check({{"truth/p", f64, "n", false}});
    for (std::string_view number : rule.numbers)
      require_number(objects, number, who, fmt::format("objective {} needs it", objective));
    for (const std::string& text : rule.texts) required_text(objects, text, who);
    if (find_attribute(objects, "", "optimum"))
      require_number(objects, "optimum_gap", who, "an optimum needs its certificate");
    return;
  }
  throw DatasetError(fmt::format("{}: unknown objective '{}'{}", who, objective,
                                 did_you_mean(objective, objective_names())));
}

}  // namespace

std::string_view kind_name(DatasetKind kind) {
  for (const auto& [value, name] : k_kinds)
    if (value == kind) return name;
  return "unknown";
}

DatasetKind kind_from(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [value, text] : k_kinds) {
    if (text == name) return value;
    known.emplace_back(text);
  }
  throw DatasetError(fmt::format("unknown dataset kind '{}'{}", name, did_you_mean(name, known)));
}

const std::vector<std::string>& objective_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const ObjectiveRule& rule : objectives()) list.push_back(rule.name);
    return list;
  }();
  return names;
}

std::string schema_text(DatasetKind kind) { return fmt::format("{}/{}", kind_name(kind), k_schema_version); }

DatasetKind check_schema(const Objects& objects, const std::string& who) {
  if (!find_attribute(objects, "", "borel_schema"))
    throw DatasetError(
        fmt::format("{}: an HDF5 file, but not a Borel dataset (no root attribute 'borel_schema'); "
                    "bring its values in with: borel data import",
                    who));
  const std::string& schema = required_text(objects, "borel_schema", who);
  const std::size_t slash = schema.find('/');
  int version = 0;
  if (slash != std::string::npos)
    std::from_chars(schema.data() + slash + 1, schema.data() + schema.size(), version);
  if (version < 1)
    throw DatasetError(
        fmt::format("{}: borel_schema must read <kind>/<version>, it reads '{}'", who, schema));
  if (version > k_schema_version)
    throw DatasetError(
        fmt::format("{}: schema '{}' is newer than this program, which reads version {}; update borel", who,
                    schema, k_schema_version));
  DatasetKind kind{};
  try {
    kind = kind_from(std::string_view(schema).substr(0, slash));
  } catch (const DatasetError& error) {
    throw DatasetError(fmt::format("{}: {}", who, error.what()));
  }
  for (const char* name : {"id", "title", "source", "licence", "content_digest"})
    required_text(objects, name, who);
  require_number(objects, "seed", who, "data that needs no random numbers has seed 0");

  ShapeCheck shapes(objects, fmt::format("{} ({})", who, schema));
  switch (kind) {
    case DatasetKind::samples:
      shapes.check(k_samples);
      break;
    case DatasetKind::tokens:
      shapes.check(k_tokens);
      break;
    case DatasetKind::images:
      check_images(objects, who);
      break;
    case DatasetKind::problem:
      check_problem(objects, shapes, who);
      break;
    case DatasetKind::qkv:
      shapes.check(k_qkv);
      if (shapes.length("h_q") % shapes.length("h_kv") != 0)
        throw DatasetError(fmt::format("{}: {} query heads cannot share {} key heads: use a multiple", who,
                                       shapes.length("h_q"), shapes.length("h_kv")));
      break;
    case DatasetKind::model:
    case DatasetKind::results:
      break;  // their own readers know their layout
  }
  return kind;
}

}  // namespace borel
