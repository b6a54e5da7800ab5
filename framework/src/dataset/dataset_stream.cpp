#include "dataset/dataset_stream.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {

DatasetStream::DatasetStream(std::shared_ptr<const Dataset> dataset, std::int64_t n_rows, StopToken stop)
    : dataset_(std::move(dataset)), weighted_(dataset_->has("weights")), stop_(std::move(stop)) {
  const std::vector<std::int64_t> shape = dataset_->shape("x");
  n_rows_ = n_rows < 0 ? shape[0] : n_rows;
  if (n_rows_ > shape[0])
    throw DatasetError(
        fmt::format("{}: {} rows are asked for, /x has {}", dataset_->info().id, n_rows_, shape[0]));
  n_dims_ = shape[1];
  if (n_dims_ < 1) throw DatasetError(fmt::format("{}: /x has no columns", dataset_->info().id));
  block_rows_ = std::max<std::int64_t>(1, k_block_values / n_dims_);
}

DatasetStream::~DatasetStream() { end_reading(); }

void DatasetStream::end_reading() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (reader_.joinable()) reader_.join();
  ready_.clear();
  error_ = nullptr;
  all_read_ = stopping_ = started_ = false;
}

void DatasetStream::rewind() {
  if (started_) end_reading();
}

void DatasetStream::read_all() {
  try {
    for (std::int64_t first = 0; first < n_rows_; first += block_rows_) {
      const std::int64_t count = std::min(block_rows_, n_rows_ - first);
      Block block;
      block.x.resize(static_cast<std::size_t>(count * n_dims_));
      dataset_->read_rows("x", first, block.x);
      if (weighted_) {
        block.weights.resize(static_cast<std::size_t>(count));
        dataset_->read_rows("weights", first, block.weights);
      }
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || ready_.size() < k_ahead; });
      if (stopping_) return;
      ready_.push_back(std::move(block));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  all_read_ = true;
  changed_.notify_all();
}

Samples DatasetStream::next() {
  stop_.throw_if_stopped();
  if (!started_) {
    reader_ = std::thread([this] { read_all(); });
    started_ = true;
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || all_read_; });
  if (ready_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return {};
  }
  now_ = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  const auto rows = static_cast<std::int64_t>(now_.x.size()) / n_dims_;
  return {TensorView<const double, 2>(now_.x.data(), {rows, n_dims_}), now_.weights};
}

}  // namespace borel
