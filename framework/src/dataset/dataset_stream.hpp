// Samples of a dataset as a stream, read ahead of whoever computes with them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "borel/density.hpp"
#include "borel/parallel.hpp"
#include "dataset/dataset.hpp"

namespace borel {

/// Rows [0, n_rows) of /x (and /weights), in blocks. A thread of its own reads up to k_ahead blocks before they are asked
/// for, so reading and computing overlap; memory is (k_ahead + 2) blocks. Errors of reading come out of next(). One
/// consumer; several streams of one dataset may be read at the same time.
class DatasetStream final : public SampleStream {
 public:
  static constexpr std::size_t k_ahead = 2;
  static constexpr std::int64_t k_block_values = 1 << 20;

  /// @param n_rows  -1 = all. @throws DatasetError: no array /x of doubles, fewer rows
  explicit DatasetStream(std::shared_ptr<const Dataset> dataset, std::int64_t n_rows = -1,
                         StopToken stop = {});
  ~DatasetStream() override;
  DatasetStream(const DatasetStream&) = delete;
  DatasetStream& operator=(const DatasetStream&) = delete;

  index_t n_samples() const override { return n_rows_; }
  index_t n_dims() const override { return n_dims_; }
  /// @throws DatasetError when the file is damaged, Stopped
  Samples next() override;
  void rewind() override;

  static double memory_bytes() {
    return static_cast<double>((k_ahead + 2) * k_block_values * 2 * sizeof(double));
  }

 private:
  struct Block {
    std::vector<double> x, weights;
  };
  void read_all();
  void end_reading();

  std::shared_ptr<const Dataset> dataset_;
  std::int64_t n_rows_ = 0, n_dims_ = 1, block_rows_ = 1;
  bool weighted_ = false;
  StopToken stop_;
  Block now_;
  std::thread reader_;
  bool started_ = false;
  // Shared with the reader
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Block> ready_;
  std::exception_ptr error_;
  bool all_read_ = false, stopping_ = false;
};

}  // namespace borel
