// The probe network: blocks that hold an attention plugin and a position plugin, in a byte-level decoder or in a denoiser
// of images. This file says what they are made of and where their numbers lie; block_pass.hpp, pass.hpp (bytes) and
// denoiser_pass.hpp (images) compute with them.
//
//   x'  = x + Attention(q, k, v, extra) W_o,     q | k | v = RMSNorm(x) W_qkv,  extra = map(RMSNorm(x) W_e + b_e)
//                                                each channel of q, k, v through a short causal convolution, if there is one
//   x'' = x' + act(RMSNorm(x') W_in) W_out       pre-norm residual blocks
//
// or, in place of both, a gated attention unit (Hua et al. 2022, arXiv:2202.10447, section 2.2, equations 3 to 6; one head,
// expansion e / d_model = 2 and key width s = 128 there):
//   x'  = x + (u * Attention(q, k, v, extra)) W_o,   u | v | z = silu(RMSNorm(x) W_uvz),   u, v [e], z [s]
//                                                q = z * query_scale + query_offset, k likewise
//   The scale of the scores is the mechanism's own: relu2{scaling=gau_n2} is the paper's relu(q k' / n)^2, softmax has
//   1 / sqrt(s) as in Su 2022, kexue.fm/archives/9019. Scales start at 1 and offsets at 0, as in Su's code. The paper's code
//   starts scales at N(0, 0.02^2), where relu(q k' / n)^2 is about 1e-10: a network of four layers then stays at 3.63 bits per
//   byte of English after 300 steps, with 1 it is at 3.21.
//
//   decoder    x_0 = E[byte] (+ absolute encoding),   logits = RMSNorm(x_L) E^T, the output tied to the embedding
//   denoiser   no causality; x_0 = patch W_p + b_p (+ absolute encoding),   patch_out = norm(x_L) W_f + b_f.
//              Every norm, the last one too, is told the level of the noise by a vector c, one for an image:
//              norm(x) = (1 + scale) * RMSNorm(x) + shift,  scale | shift = c W_m + b_m   (adaLN, Peebles and Xie 2022,
//              arXiv:2212.09748, section 3.2; W_m and b_m start at zero, so that the norm starts as RMSNorm)
//              c = silu(silu(f W_1 + b_1) W_2 + b_2),  f_m = cos, sin of omega_m ln(sigma) / 4
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

/// transformer: attention, then a feed-forward part. gau: a gated attention unit in place of both.
enum class Block { transformer, gau };

/// gelu: x Phi(x) in its tanh form (Hendrycks and Gimpel 2016, eq. 2). gated: silu(a) * b (Shazeer 2020, SwiGLU).
enum class FeedForward { gelu, gated };

/// The tokens of a denoiser: patches of n_values pixels, row after row. n_rows = 0: a decoder of bytes.
struct PatchGrid {
  index_t n_rows = 0, n_columns = 0, n_values = 0;
  double sigma_data = 0.5;  ///< standard deviation of the pixels; scales what goes in and comes out
  bool used() const { return n_rows > 0; }
  index_t n_tokens() const { return n_rows * n_columns; }
};

struct ModelConfig {
  index_t n_layers = 4, d_model = 128, n_heads = 4, d_feed_forward = 512;
  index_t train_length = 256;
  Block block = Block::transformer;
  index_t expansion = 2, key_width = 128;  ///< of a gau: e / d_model, and s
  FeedForward feed_forward = FeedForward::gelu;
  index_t short_convolution = 0;  ///< taps on q, k and v, the token's own among them; 0 = none
  /// One for all layers, or one per layer (layer schedules).
  std::vector<MethodSpec> attention{MethodSpec{"attention", "softmax", {}}};
  std::vector<MethodSpec> position{MethodSpec{"position", "rope", {}}};
  double embedding_sd = 0.02;  ///< of a decoder's embedding at the start
  PatchGrid patches;           ///< of a denoiser; train_length is then their number
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

/// x W + b: indices into Architecture::slices().
struct AffineMap {
  index_t weight = 0, bias = 0;
};

/// Where the tensors of one layer lie: indices into Architecture::slices().
struct Layer {
  std::unique_ptr<Attention> attention;
  std::unique_ptr<PositionEncoding> position;
  AttentionContext context;
  index_t d_plan = 0;             ///< size of the vectors that the plan rotates
  bool learns_positions = false;  ///< a parameter enters the plan and is trainable
  std::vector<ExtraInput> extra;
  index_t attention_norm = 0, attention_out = 0;
  index_t qkv = 0, feed_forward_norm = 0, feed_forward_in = 0, feed_forward_out = 0;  ///< of a transformer
  index_t uvz = 0, query_scale = 0, query_offset = 0, key_scale = 0, key_offset = 0;  ///< of a gau
  index_t convolution = 0;  ///< only where the model has one
  AffineMap modulation;     ///< only of a denoiser: c -> scale | shift of the first norm, then of the second
  std::vector<index_t> extra_weight, extra_bias, attention_parameters, position_parameters;

  index_t qkv_size() const { return context.h_q * (2 * context.d_k + context.d_v); }  ///< of a token
  index_t o_size() const { return context.h_q * context.d_v; }
};

/// What goes in and comes out of a denoiser.
struct DenoiserMaps {
  AffineMap patch_in, patch_out, level_in, level_out, final_modulation;
};
constexpr index_t k_level_features = 32;  ///< cosines and sines of the logarithm of sigma, as many of each

/// Immutable. Threads: any number of readers.
class Architecture {
 public:
  /// @throws ParamError for sizes that do not fit, MethodError for a plugin that cannot be used in a decoder, or in a
  /// denoiser, naming the layer and the reason
  Architecture(const ModelConfig& config, const Registry& registry);

  const ModelConfig& config() const { return config_; }
  std::span<const Layer> layers() const { return layers_; }
  std::span<const ParameterSlice> slices() const { return slices_; }
  const ParameterSlice& slice(index_t i) const { return slices_[static_cast<std::size_t>(i)]; }
  index_t n_parameters() const { return n_parameters_; }  ///< trainable and fixed ones
  index_t n_trainable() const;
  index_t embedding() const { return embedding_; }  ///< of a decoder
  const DenoiserMaps& denoiser() const { return denoiser_; }
  index_t final_norm() const { return final_norm_; }
  index_t norms_per_layer() const { return config_.block == Block::transformer ? 2 : 1; }

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
  index_t add_constant(std::string name, index_t n, float value);
  AffineMap add_affine(const std::string& name, index_t rows, index_t columns, double sd);
  void add_layer(index_t l, const Registry& registry);
  void add_attention(Layer& layer, const std::string& prefix);
  void add_feed_forward(Layer& layer, const std::string& prefix);
  void add_gau(Layer& layer, const std::string& prefix);
  index_t add_convolution(std::string name);
  double residual_scale() const;
  void add_extra_inputs(Layer& layer, const std::string& prefix);
  void add_declared(std::span<const ParameterTensor> declared, const std::string& prefix,
                    std::vector<index_t>& out);

  ModelConfig config_;
  std::vector<Layer> layers_;
  std::vector<ParameterSlice> slices_;
  std::vector<double> coordinates_;  ///< row and column of each patch
  index_t n_parameters_ = 0, embedding_ = 0, final_norm_ = 0;
  DenoiserMaps denoiser_;
};

}  // namespace borel::probe
