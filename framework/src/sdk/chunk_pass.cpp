#include "chunk_pass.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "rotation.hpp"

namespace borel {
namespace {

using Tokens = ExtraInput::Tokens;

const Band* band_of(const PositionPlan* plan) {
  return plan && !plan->bands.empty() && plan->bands.front().angle && plan->n_rot_dims > 0
             ? &plan->bands.front()
             : nullptr;
}

void check_form(const ChunkForm& form, const AttentionCall& call) {
  if (form.normalised && (form.delta_rule || form.read_before_write))
    throw MethodError("a chunk method cannot be normalised and have the delta rule or read before it writes");
  if (form.log_keys && (!form.normalised || form.epsilon != 0 || form.decay != ChunkForm::Decay::none))
    throw MethodError("logarithms of keys go with a normalised form without decay and with epsilon 0");
  if (form.shared_keys && form.read_before_write)
    throw MethodError(
        "a chunk method that reads before it writes cannot share its keys: the bonus has a head");
  if (form.delta_rule && form.read_before_write)
    throw MethodError("a chunk method with the delta rule reads after it writes");
  if (!call.causal && (form.decay != ChunkForm::Decay::none || form.delta_rule || form.read_before_write))
    throw MethodError(
        "a recurrence with decay, delta rule or bonus has no bidirectional form; set causal = true");
}

}  // namespace

FeatureRows::FeatureRows(index_t n, index_t row_length, bool rotates)
    : plain_(n * row_length), rotated_(rotates ? n * row_length : 0) {
  std::ranges::fill(plain_.span(), 0.0f);
  std::ranges::fill(rotated_.span(), 0.0f);
}

ChunkPass::ChunkPass(const ChunkAttention& method, const AttentionCall& call, index_t first_key)
    : method_(method),
      call_(call),
      form_(method.form()),
      first_key_(first_key),
      declared_(method.extra_inputs(call.context)),
      f_(method.feature_size(call.context)),
      band_(band_of(call.position)),
      n_pairs_(band_ ? call.position->n_rot_dims / 2 : 0),
      tables_(2 * n_pairs_ * (call.n_q() + call.n_k())) {
  check_form(form_, call);
  if (!band_) return;
  if (2 * n_pairs_ > (form_.rotate_inputs ? call.d_k() : f_))
    throw MethodError(
        fmt::format("the rotation turns {} components, but this method has {} features", 2 * n_pairs_, f_));
  cosine_q_ = tables_.data(), sine_q_ = cosine_q_ + call.n_q() * n_pairs_;
  cosine_k_ = sine_q_ + call.n_q() * n_pairs_, sine_k_ = cosine_k_ + call.n_k() * n_pairs_;
  make_table(Tokens::query, call.n_q(), cosine_q_, sine_q_);
  make_table(Tokens::key, call.n_k(), cosine_k_, sine_k_);
}

index_t ChunkPass::decay_width() const {
  if (form_.log_keys) return 1;
  return form_.decay == ChunkForm::Decay::none ? 0 : form_.decay == ChunkForm::Decay::token ? 1 : f_;
}

std::span<const double> ChunkPass::positions(Tokens side, index_t begin, index_t end) const {
  const PositionTable& table = side == Tokens::query ? band_->query_position : band_->key_position;
  return std::span(*table).subspan(static_cast<std::size_t>(begin * band_->n_axes),
                                   static_cast<std::size_t>((end - begin) * band_->n_axes));
}

void ChunkPass::make_table(Tokens side, index_t n, float* cosine, float* sine) const {
  parallel_for(n, 256, [&](index_t begin, index_t end) {
    rotation_table(*call_.position, *band_, positions(side, begin, end), cosine + begin * n_pairs_,
                   sine + begin * n_pairs_);
  });
}

void ChunkPass::turn(Tokens side, index_t begin, index_t end, TensorView<const float, 2> in,
                     TensorView<float, 2> out) const {
  const bool query = side == Tokens::query;
  apply_rotation(*call_.position, *band_, positions(side, begin, end),
                 (query ? cosine_q_ : cosine_k_) + begin * n_pairs_,
                 (query ? sine_q_ : sine_k_) + begin * n_pairs_, query ? 1 : -1, 0, in, out);
}

void ChunkPass::rotate_back(Tokens side, index_t begin, index_t end, TensorView<const float, 2> rotated,
                            TensorView<float, 2> d_rows, std::span<double> d_angle) const {
  if (!band_) return;
  if (!d_angle.empty())
    add_angle_gradient(*call_.position, *band_, positions(side, begin, end), rotated, d_rows, d_angle);
  const index_t size = (end - begin) * n_pairs_;
  const float* from = (side == Tokens::query ? sine_q_ : sine_k_) + begin * n_pairs_;
  const Scratch<float> minus_sine(size);
  std::transform(from, from + size, minus_sine.data(), [](float x) { return -x; });
  apply_rotation(*call_.position, *band_, positions(side, begin, end),
                 (side == Tokens::query ? cosine_q_ : cosine_k_) + begin * n_pairs_, minus_sine.data(), 1, 0,
                 d_rows, d_rows);
}

std::span<double> ChunkPass::angle_gradient(const AttentionBackward::Gradients& gradients) const {
  if (!band_ || !gradients.d_position) return {};
  const auto number = static_cast<std::size_t>(band_ - call_.position->bands.data());
  return number < gradients.d_position->angle.size() ? gradients.d_position->angle[number]
                                                     : std::span<double>();
}

ChunkRows ChunkPass::rows(Tokens side, index_t head, index_t begin, index_t end,
                          std::vector<TensorView<const float, 2>>& extra) const {
  for (std::size_t e = 0; e < declared_.size(); ++e) {
    const index_t source = declared_[e].heads == ExtraInput::Heads::query ? head : call_.kv_head(head);
    if (declared_[e].tokens != side) {
      extra.emplace_back();
      continue;
    }
    if (end > call_.extra[e].shape(1))
      throw MethodError(fmt::format("the last query stands at {}, but '{}' is given for {} keys only",
                                    end - 1, declared_[e].name, call_.extra[e].shape(1)));
    extra.push_back(call_.extra[e][source].slice(0, begin, end));
  }
  const index_t first = begin + (side == Tokens::query ? call_.query_offset : first_key_);
  return {call_.context, call_.parameters, head, first, end - begin, extra};
}

void ChunkPass::queries(index_t head, index_t begin, index_t end, const FeatureRows& out,
                        index_t first_row) const {
  std::vector<TensorView<const float, 2>> extra;
  const index_t ld = f_pad();
  const TensorView<float, 2> plain(out.plain() + first_row * ld, {end - begin, f_}, {ld, 1}),
      rotated(out.rotated() + first_row * ld, {end - begin, f_}, {ld, 1});
  const Scratch<float> turned(n_turned(end - begin));
  method_.query_features(rows(Tokens::query, head, begin, end, extra),
                         inputs(Tokens::query, head, begin, end, turned), plain);
  if (rotates()) turn(Tokens::query, begin, end, plain, rotated);
}

void ChunkPass::keys(index_t head, index_t begin, index_t end, const FeatureRows& out) const {
  std::vector<TensorView<const float, 2>> extra;
  const TensorView<float, 2> plain(out.plain(), {end - begin, f_}, {f_pad(), 1});
  const Scratch<float> turned(n_turned(end - begin));
  method_.key_features(rows(Tokens::key, head, begin, end, extra),
                       inputs(Tokens::key, head, begin, end, turned), plain);
  if (!form_.log_keys) rotate_keys(begin, end, out);
}

TensorView<const float, 2> ChunkPass::inputs(Tokens side, index_t head, index_t begin, index_t end,
                                             const Scratch<float>& turned) const {
  const TensorView<const float, 2> given =
      (side == Tokens::query ? call_.q[head] : call_.k[call_.kv_head(head)]).slice(0, begin, end);
  if (!rotates_inputs()) return given;
  const TensorView<float, 2> out(turned.data(), {end - begin, call_.d_k()});
  turn(side, begin, end, given, out);
  return out;
}

void ChunkPass::rotate_keys(index_t begin, index_t end, const FeatureRows& out) const {
  if (!rotates()) return;
  const TensorView<float, 2> plain(out.plain(), {end - begin, f_}, {f_pad(), 1}),
      rotated(out.rotated(), {end - begin, f_}, {f_pad(), 1});
  turn(Tokens::key, begin, end, plain, rotated);
}

void ChunkPass::log_decay(index_t head, index_t begin, index_t end, TensorView<float, 2> out) const {
  std::vector<TensorView<const float, 2>> extra;
  method_.log_decay(rows(Tokens::key, head, begin, end, extra), out);
}

void ChunkPass::write_strength(index_t head, index_t begin, index_t end, std::span<float> out) const {
  std::vector<TensorView<const float, 2>> extra;
  method_.write_strength(rows(Tokens::key, head, begin, end, extra), out);
}

void ChunkPass::bonus(index_t head, std::span<float> out) const {
  std::vector<TensorView<const float, 2>> extra;
  method_.bonus(rows(Tokens::key, head, 0, 0, extra), out);
}

}  // namespace borel
