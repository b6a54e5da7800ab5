// How many pairs of a query and a key a call computes: what work in pairwise mechanisms is proportional to.
#pragma once

#include "borel/attention.hpp"

namespace borel {

/// Pairs that the causal rule and the plan's visible regions keep, summed over the members of an ensemble; documents are not
/// looked at. O(n_q regions log regions), with strided regions O(n_q n_k).
double visible_pairs(const AttentionCall& call);

/// The same without a plan.
double all_pairs(const AttentionCall& call);

}  // namespace borel
