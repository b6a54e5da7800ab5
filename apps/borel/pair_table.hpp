// borel list --pairs: which attention mechanism takes which position encoding.
#pragma once

#include <vector>

#include "protocols/attention_pairs.hpp"

namespace borel::app {

/// A grid with one character a pair and the reasons of refusals as footnotes, each once. Split into blocks of columns where
/// the terminal is too narrow. @param by_position rows are encodings and columns mechanisms, else the other way round
void print_pair_grid(const std::vector<AttentionPairing>& pairings, bool by_position);

/// The pairs of one method: what it works with, then the others by reason.
void print_pairs_of(const MethodSpec& method, const std::vector<AttentionPairing>& pairings);

void print_pairs_json(const std::vector<AttentionPairing>& pairings);

}  // namespace borel::app
