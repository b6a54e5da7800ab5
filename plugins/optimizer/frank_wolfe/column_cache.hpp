// Columns of a quadratic form, computed once each while memory lasts; then the oldest make room.
#pragma once

#include <algorithm>
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
  std::span<const double> get(borel::index_t i, borel::index_t keep) {
    std::size_t& slot = slot_of_[static_cast<std::size_t>(i)];
    if (slot == k_none) {
      slot = free_slot(keep);
      owner_[slot] = i;
      form_.column(i, columns_[slot]);
    }
    return columns_[slot];
  }

 private:
  static constexpr std::size_t k_none = static_cast<std::size_t>(-1);

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
  std::size_t n_slots_ = 0, oldest_ = 0;
};

}  // namespace
