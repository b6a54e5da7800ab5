// The probe network: a byte-level decoder whose layers hold an attention plugin and a position plugin. This file says
// what it is made of and where its numbers lie; pass.hpp computes with them.
//
//   x_0 = E[byte] (+ absolute encoding)
//   x'  = x + Attention(q, k, v, extra) W_o,     q | k | v = RMSNorm(x) W_qkv,  extra = map(RMSNorm(x) W_e + b_e)
//                                                each channel of q, k, v through a short causal convolution, if there is one
//   x'' = x' + act(RMSNorm(x') W_in) W_out       pre-norm residual blocks
//   logits = RMSNorm(x_L) E^T                    output tied to the embedding
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "borel/attention.hpp"
#include "borel/registry.hpp"
#include "borel/rng.hpp"

namespace borel::probe {

constexpr index_t k_vocabulary = 256;  ///< bytes

/// gelu: x Phi(x) in its tanh form (Hendrycks and Gimpel 2016, eq. 2). gated: silu(a) * b (Shazeer 2020, SwiGLU).
enum class FeedForward { gelu, gated };

struct ModelConfig {
  index_t n_layers = 4, d_model = 128, n_heads = 4, d_feed_forward = 512;
  index_t train_length = 256;
  FeedForward feed_forward = FeedForward::gelu;
  index_t short_convolution = 0;  ///< taps on q, k and v, the token's own among them; 0 = none
  /// One for all layers, or one per layer (layer schedules).
  std::vector<MethodSpec> attention{MethodSpec{"attention", "softmax", {}}};
  std::vector<MethodSpec> position{MethodSpec{"position", "rope", {}}};
};

/// A named tensor inside the flat array of all parameters.
struct ParameterSlice {
  std::string name;  ///< "layer_2/qkv"
  std::vector<index_t> shape;
  index_t offset = 0, size = 0;
  bool trainable = true;
  bool decays = false;  ///< weight decay applies: matrices of the network, nothing else
  std::function<void(Rng&, std::span<float>)> init;
};

/// Where the tensors of one layer lie: indices into Architecture::slices().
struct Layer {
  std::unique_ptr<Attention> attention;
  std::unique_ptr<PositionEncoding> position;
  AttentionContext context;
  index_t d_plan = 0;             ///< size of the vectors that the plan rotates
  bool learns_positions = false;  ///< a parameter enters the plan and is trainable
  std::vector<ExtraInput> extra;
  index_t attention_norm = 0, qkv = 0, attention_out = 0;
  index_t convolution = 0;  ///< only where the model has one
  index_t feed_forward_norm = 0, feed_forward_in = 0, feed_forward_out = 0;
  std::vector<index_t> extra_weight, extra_bias, attention_parameters, position_parameters;
};

/// Immutable. Threads: any number of readers.
class Architecture {
 public:
  /// @throws ParamError for sizes that do not fit, MethodError for a plugin that cannot be used in a causal network,
  /// naming the layer and the reason
  Architecture(const ModelConfig& config, const Registry& registry);

  const ModelConfig& config() const { return config_; }
  std::span<const Layer> layers() const { return layers_; }
  std::span<const ParameterSlice> slices() const { return slices_; }
  const ParameterSlice& slice(index_t i) const { return slices_[static_cast<std::size_t>(i)]; }
  index_t n_parameters() const { return n_parameters_; }  ///< trainable and fixed ones
  index_t embedding() const { return embedding_; }
  index_t final_norm() const { return final_norm_; }
  index_t d_head() const { return config_.d_model / config_.n_heads; }

  /// Initial values; each tensor has its own stream, so that methods are compared with the same network around them.
  std::vector<float> initial_parameters(Seed seed) const;

  /// Context of one layer for sequences of n tokens. `seed`: of the training step, for random positions.
  PositionContext position_context(index_t layer, index_t n, bool training, Seed seed) const;
  /// Plans of all layers. O(n) per layer. @throws MethodError when an encoding cannot serve the length, or the mechanism
  /// does not take the plan
  std::vector<PositionPlan> plans(std::span<const float> parameters, index_t n, bool training,
                                  Seed seed) const;
  /// The spans that a plugin's declared tensors have in `flat`.
  std::vector<std::span<const float>> values(std::span<const index_t> slices,
                                             std::span<const float> flat) const;

 private:
  index_t add(ParameterSlice slice);
  index_t add_matrix(std::string name, index_t rows, index_t columns, double sd);
  index_t add_ones(std::string name, index_t n);
  index_t add_convolution(std::string name);
  void add_extra_inputs(Layer& layer, const std::string& prefix);
  void add_declared(std::span<const ParameterTensor> declared, const std::string& prefix,
                    std::vector<index_t>& out);

  ModelConfig config_;
  std::vector<Layer> layers_;
  std::vector<ParameterSlice> slices_;
  index_t n_parameters_ = 0, embedding_ = 0, final_norm_ = 0;
};

}  // namespace borel::probe
