// DRAFT. Encodings made of another encoding: log n scales, windows, random positions in training.
#pragma once

#include <memory>
#include <vector>

#include "borel/parallel.hpp"
#include "borel/position.hpp"
#include "borel/registry.hpp"

namespace borel {

/// Forwards parameters, gradients and embedding to the inner encoding; a method adds traits() and plan(). Where it changes
/// what the inner parameters do to the plan, it overrides backward() too.
class BOREL_EXPORT PositionWrapper : public PositionEncoding {
 public:
  std::vector<ParameterTensor> parameters(index_t n_heads, index_t d_head, index_t d_model) const override;
  void backward(const PositionContext& context, ParameterValues parameters, const PositionGradients& d_plan,
                ParameterGradients d_parameters) const override;
  const TokenEmbedding* embedding() const override;

 protected:
  /// @param of an empty spec stands for no encoding
  PositionWrapper(const MethodSpec& of, const Registry& registry);
  ~PositionWrapper() override;
  const PositionEncoding* inner() const { return of_.get(); }
  PositionTraits inner_traits() const;  ///< of no encoding: shift-invariant
  PositionPlan inner_plan(const PositionContext& context, ParameterValues parameters) const;

 private:
  std::unique_ptr<PositionEncoding> of_;
};

/// The plan itself, or each member of its ensemble.
BOREL_EXPORT void for_each_member(PositionPlan& plan, FunctionRef<void(PositionPlan&)> change);

/// The plan of a rotation when token t stands at positions[t] instead of t.
/// @param positions [n_tokens] ascending
/// @throws MethodError when the encoding has windows, biases or scales: those count tokens, not positions
BOREL_EXPORT PositionPlan plan_at_positions(const PositionEncoding& encoding, const PositionContext& context,
                                            ParameterValues parameters, std::span<const index_t> positions);

}  // namespace borel
