// A saved method in memory: writes and reads back, for rules and tests about save and load.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "borel/error.hpp"
#include "borel/state.hpp"

namespace borel::contract {

class MemoryState final : public StateWriter, public StateReader {
 public:
  void put(std::string_view name, std::span<const double> values) override {
    values_[std::string(name)].assign(values.begin(), values.end());
  }
  void put_text(std::string_view name, std::string_view text) override { texts_[std::string(name)] = text; }
  MemoryState& group(std::string_view name) override {
    std::unique_ptr<MemoryState>& part = groups_[std::string(name)];
    if (!part) part = std::make_unique<MemoryState>();
    return *part;
  }

  std::vector<double> get(std::string_view name) const override { return find(values_, name); }
  std::string get_text(std::string_view name) const override { return find(texts_, name); }
  const MemoryState& group(std::string_view name) const override { return *find(groups_, name); }
  bool has(std::string_view name) const override {
    return values_.contains(name) || texts_.contains(name) || groups_.contains(name);
  }

  /// Everything but the texts, to be compared: a method that is saved twice must give the same numbers.
  bool same_numbers(const MemoryState& other) const {
    if (values_ != other.values_ || groups_.size() != other.groups_.size()) return false;
    for (const auto& [name, part] : groups_) {
      const auto at = other.groups_.find(name);
      if (at == other.groups_.end() || !part->same_numbers(*at->second)) return false;
    }
    return true;
  }

 private:
  template <class Value>
  static const Value& find(const std::map<std::string, Value, std::less<>>& map, std::string_view name) {
    const auto at = map.find(name);
    if (at == map.end())
      throw DatasetError("saved state: nothing is stored under the name '" + std::string(name) + "'");
    return at->second;
  }

  std::map<std::string, std::vector<double>, std::less<>> values_;
  std::map<std::string, std::string, std::less<>> texts_;
  std::map<std::string, std::unique_ptr<MemoryState>, std::less<>> groups_;
};

}  // namespace borel::contract
