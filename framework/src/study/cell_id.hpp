// What makes a cell the same cell: its id, and the seed that its random numbers come from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "borel/rng.hpp"
#include "results/run_results.hpp"

namespace borel {

/// Canonical JSON (sorted keys, no blanks) of everything that a result depends on: protocol and its version,
/// canonical options, dataset digest, canonical methods with the SHA-256 of their plugin files, repetition,
/// study seed, and the SHA-256 of the library, whose engines do most of the methods' arithmetic.
std::string cell_inputs(const CellRecord& cell, int protocol_version, std::uint64_t study_seed,
                        std::string_view library_sha256);

/// First 32 hex digits of the SHA-256 of the inputs.
std::string cell_id(std::string_view inputs);

/// The same for all methods of a comparison, so that they see the same data splits and starting points.
Seed cell_seed(std::uint64_t study_seed, std::string_view protocol, std::string_view options,
               std::string_view dataset_digest, std::int64_t repetition);

/// Which of n shards a cell belongs to, in [1, n]; depends on the id alone.
int shard_of(std::string_view cell_id, int n_shards);

}  // namespace borel
