// An attention method with a position encoding, ready to be called on given q, k, v: what all attention protocols share.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/attention.hpp"
#include "protocols/protocol.hpp"

namespace borel {

/// The two methods of a cell: roles attention, position.
struct AttentionPair {
  std::unique_ptr<Attention> attention;
  std::unique_ptr<PositionEncoding> position;
};

AttentionPair make_attention_pair(const CellInput& input);

struct AttentionSetting {
  bool causal = true;
  index_t query_offset = 0;
  index_t train_length = 0;
  TensorView<const double, 2> coordinates;  ///< [n_k, 2] for images, else empty
  /// false: q and k are given, so an encoding that is added to token embeddings has nowhere to enter.
  bool has_embeddings = false;
  index_t layer_index = 0, n_layers = 1;  ///< for layer schedules
};

/// "" or why the pair cannot be used in this setting: a trait of the mechanism, a refused plan, an encoding that needs
/// something else. Cheap: plans for the sizes that are given.
std::string refuses_setting(const AttentionPair& pair, index_t n_heads, index_t n_q, index_t n_k, index_t d_k,
                            index_t d_v, const AttentionSetting& setting);

/// Owns plan, default extra inputs and parameters of one call. The views of q, k, v and the pair must outlive it.
class PreparedCall {
 public:
  PreparedCall(const AttentionPair& pair, TensorView<const float, 3> q, TensorView<const float, 3> k,
               TensorView<const float, 3> v, const AttentionSetting& setting, Seed seed, StopToken stop);
  PreparedCall(const PreparedCall&) = delete;
  PreparedCall& operator=(const PreparedCall&) = delete;

  const AttentionCall& call() const { return call_; }
  void forward(TensorView<float, 3> o) const;

 private:
  const Attention& attention_;
  AttentionContext context_;
  AttentionDefaults defaults_;
  PositionPlan plan_;
  AttentionCall call_;
};

/// A result with NaN or infinity must not be scored. @throws MethodError naming `what` ("output", "weights") and the row
void expect_finite(std::string_view what, index_t row, std::span<const float> values);

}  // namespace borel
