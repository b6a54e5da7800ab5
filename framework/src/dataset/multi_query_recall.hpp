// Multi-query associative recall (MQAR): Arora et al. 2023, "Zoology", arXiv:2312.04927; laid out as in the authors' code
// (github.com/HazyResearch/zoology, multiquery_ar.py, without random fillers, which may collide with keys).
//
//   inputs   k1 v1 k2 v2 ... kP vP | _ k2 _ _ _ _ k1 _ ...      all pairs first, then every key once more as a query
//   targets                            v2         v1            at the query itself; nothing is asked elsewhere
//
// The places after the pairs are cut into slots of two, as in the authors' code, or of one, so that queries stand side by
// side; a query opens its slot. Key after key takes a free slot, slot g = 1, 2, ... with probability in proportion to
// power g^(power - 1): most queries come soon, few very late.
#pragma once

#include <cstdint>
#include <span>

#include "borel/rng.hpp"
#include "borel/tensor.hpp"

namespace borel {

struct RecallTask {
  index_t length = 64;  ///< tokens of a sequence: pairs, then whole slots, at least one for each pair
  index_t n_pairs = 8;  ///< keys, values and queries of a sequence
  index_t vocabulary =
      256;              ///< keys are drawn from [1, vocabulary / 2), values from [vocabulary / 2, vocabulary)
  index_t slot = 2;     ///< tokens of a slot
  double power = 0.01;  ///< of the law of gaps; 1 = uniform

  /// @throws ParamError
  void check() const;
};

/// Neither a key nor a value: fills the places between queries. As a target: nothing is asked.
constexpr std::uint8_t k_no_token = 0;

/// One sequence. Keys of a sequence are distinct, and so are its values. O(length + n_pairs length).
/// @param inputs, targets  [task.length], overwritten
void draw_recall_sequence(const RecallTask& task, Rng& rng, std::span<std::uint8_t> inputs,
                          std::span<std::uint8_t> targets);

}  // namespace borel
