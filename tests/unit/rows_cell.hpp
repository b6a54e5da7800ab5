// A cell over random rows, for tests of protocols that read q, k and v.
#pragma once

#include <string>
#include <vector>

#include "borel/rng.hpp"
#include "built_plugins.hpp"
#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"
#include "protocols/protocol.hpp"

namespace borel::test {

/// One head of n tokens with 8 components; methods and parameters are left to the caller.
inline CellInput rows_cell(index_t n, const std::string& protocol) {
  DatasetWriter writer(DatasetKind::qkv, "rows", "rows", "a test", "CC0");
  std::vector<float> rows(static_cast<std::size_t>(n * 8));
  Rng rng(Seed{5});
  rng.fill_normal(rows);
  for (const char* name : {"q", "k", "v"}) writer.array(name, rows, {1, n, 8});
  writer.seal();
  CellInput input;
  input.dataset = Dataset::from(writer);
  input.registry = &registry();
  input.options.id = protocol;
  return input;
}

}  // namespace borel::test
