// Columns of a quadratic form, computed once each while memory lasts; then the oldest make room. While there is room,
// columns that will likely be wanted next are made in the same pass over the data.
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <vector>

#include "borel/objective.hpp"

namespace {

class ColumnCache {
 public:
  /// At least two columns are kept, whatever `memory_bytes` says: a pairwise step needs two.
  ColumnCache(const borel::QuadraticForm& form, borel::index_t n, double memory_bytes)
      : form_(form), n_(static_cast<std::size_t>(n)), slot_of_(n_, k_none) {
    const double fit = memory_bytes / (sizeof(double) * static_cast<double>(n_));
    n_slots_ = fit >= static_cast<double>(n_) ? std::max<std::size_t>(n_, 2)
                                              : std::max<std::size_t>(2, static_cast<std::size_t>(fit));
  }

  /// Q e_i; valid until the next call, and the column of `keep` stays valid over this call.
  /// @param rank  rank(j): how soon column j is likely wanted, small is soon; infinity is never
  template <class Rank>
  std::span<const double> get(borel::index_t i, borel::index_t keep, Rank&& rank) {
    const std::size_t& slot = slot_of_[static_cast<std::size_t>(i)];
    if (slot == k_none && columns_.size() + k_at_once <= n_slots_)
      make_several(i, rank);
    else if (slot == k_none)
      form_.column(i, columns_[take_slot(i, keep)]);
    return columns_[slot];
  }

 private:
  static constexpr std::size_t k_none = static_cast<std::size_t>(-1), k_at_once = 4;

  template <class Rank>
  void make_several(borel::index_t i, Rank&& rank) {
    std::array<borel::index_t, k_at_once> wanted = {i};
    std::array<double, k_at_once> ranks = {-std::numeric_limits<double>::infinity()};
    std::size_t n_wanted = 1;
    for (std::size_t j = 0; j < n_; ++j) {
      if (slot_of_[j] != k_none || static_cast<borel::index_t>(j) == i) continue;
      const double r = rank(j);
      if (r == std::numeric_limits<double>::infinity() || (n_wanted == k_at_once && r >= ranks.back()))
        continue;
      if (n_wanted < k_at_once) ++n_wanted;
      std::size_t at = n_wanted - 1;
      for (; at > 1 && ranks[at - 1] > r; --at) {
        ranks[at] = ranks[at - 1];
        wanted[at] = wanted[at - 1];
      }
      ranks[at] = r;
      wanted[at] = static_cast<borel::index_t>(j);
    }
    batch_.resize(k_at_once * n_);
    form_.columns(std::span(wanted).first(n_wanted),
                  {batch_.data(), {static_cast<borel::index_t>(n_wanted), static_cast<borel::index_t>(n_)}});
    for (std::size_t k = 0; k < n_wanted; ++k)
      std::copy_n(batch_.begin() + static_cast<std::ptrdiff_t>(k * n_), n_,
                  columns_[take_slot(wanted[k], i)].begin());
  }

  std::size_t take_slot(borel::index_t i, borel::index_t keep) {
    const std::size_t slot = free_slot(keep);
    owner_[slot] = i;
    slot_of_[static_cast<std::size_t>(i)] = slot;
    return slot;
  }

  std::size_t free_slot(borel::index_t keep) {
    if (columns_.size() < n_slots_) {
      columns_.emplace_back(n_);
      owner_.push_back(0);
      return columns_.size() - 1;
    }
    if (owner_[oldest_] == keep) oldest_ = (oldest_ + 1) % n_slots_;
    const std::size_t slot = oldest_;
    oldest_ = (oldest_ + 1) % n_slots_;
    slot_of_[static_cast<std::size_t>(owner_[slot])] = k_none;
    return slot;
  }

  const borel::QuadraticForm& form_;
  std::size_t n_;
  std::vector<std::size_t> slot_of_;   // column -> slot
  std::vector<borel::index_t> owner_;  // slot -> column
  std::vector<std::vector<double>> columns_;
  std::vector<double> batch_;  // [k_at_once, n]
  std::size_t n_slots_ = 0, oldest_ = 0;
};

}  // namespace
