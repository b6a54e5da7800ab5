#include "probe/pass.hpp"

#include <algorithm>

#include "probe/dense_layer.hpp"

namespace borel::probe {

template <class T>
Pass<T>::Pass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_sequences,
              index_t n, bool keep)
    : architecture_(architecture),
      m_(n_sequences * n),
      d_(architecture.config().d_model),
      blocks_(architecture, mixers, n_sequences, n, keep),
      x_(static_cast<std::size_t>(m_ * d_)),
      normed_(x_),
      rms_(static_cast<std::size_t>(m_)),
      normed_asked_(x_),
      logits_(static_cast<std::size_t>(m_ * k_vocabulary)) {
  asked_.reserve(rms_.size());
  if (keep) d_x_ = d_normed_ = d_normed_asked_ = x_;
}

template <class T>
void Pass<T>::forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                      std::span<const std::uint8_t> tokens, StopToken stop,
                      std::span<const std::uint8_t> asked) {
  asked_.clear();
  for (index_t r = 0; r < m_; ++r)
    if (asked.empty() || asked[static_cast<std::size_t>(r)] != 0) asked_.push_back(r);
  const T* table = parameter(parameters, architecture_.embedding());
  for (index_t r = 0; r < m_; ++r)
    std::copy_n(table + tokens[static_cast<std::size_t>(r)] * d_, d_, x_.data() + r * d_);
  blocks_.forward(parameters, plans, {}, x_, stop);
  rms_norm<T>({x_.data(), m_, d_}, parameter(parameters, architecture_.final_norm()),
              {normed_.data(), m_, d_}, rms_.data());
  const T* rows = normed_.data();
  const index_t n_asked = std::ssize(asked_);
  if (!all_asked()) {
    for (index_t i = 0; i < n_asked; ++i)
      std::copy_n(normed_.data() + asked_[static_cast<std::size_t>(i)] * d_, d_,
                  normed_asked_.data() + i * d_);
    rows = normed_asked_.data();
  }
  multiply<T>({rows, n_asked, d_}, false, {table, k_vocabulary, d_}, true, false,
              {logits_.data(), n_asked, k_vocabulary});
}

template <class T>
double Pass<T>::cross_entropies(std::span<const std::uint8_t> targets, T scale) {
  double total = 0;
  for (std::size_t i = 0; i < asked_.size(); ++i)
    total += cross_entropy(logits_.data() + i * k_vocabulary, k_vocabulary,
                           targets[static_cast<std::size_t>(asked_[i])], scale);
  return total;
}

template <class T>
void Pass<T>::backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                       std::span<const std::uint8_t> tokens, NetworkGradients<T>& gradients, StopToken stop) {
  const auto into = [&](index_t slice) { return gradients.flat.data() + architecture_.slice(slice).offset; };
  const index_t table = architecture_.embedding();
  const index_t n_asked = std::ssize(asked_);
  const T* rows = all_asked() ? normed_.data() : normed_asked_.data();
  T* d_rows = all_asked() ? d_normed_.data() : d_normed_asked_.data();
  // The logits hold their own gradient by now.
  multiply<T>({logits_.data(), n_asked, k_vocabulary}, true, {rows, n_asked, d_}, false, true,
              {into(table), k_vocabulary, d_});
  multiply<T>({logits_.data(), n_asked, k_vocabulary}, false,
              {parameter(parameters, table), k_vocabulary, d_}, false, false, {d_rows, n_asked, d_});
  if (!all_asked()) {
    std::fill(d_normed_.begin(), d_normed_.end(), T(0));
    for (index_t i = 0; i < n_asked; ++i)
      std::copy_n(d_rows + i * d_, d_, d_normed_.data() + asked_[static_cast<std::size_t>(i)] * d_);
  }
  std::fill(d_x_.begin(), d_x_.end(), T(0));
  rms_norm_backward<T>({x_.data(), m_, d_}, parameter(parameters, architecture_.final_norm()), rms_.data(),
                       {d_normed_.data(), m_, d_}, {d_x_.data(), m_, d_}, into(architecture_.final_norm()));
  blocks_.backward(parameters, plans, {}, d_x_, {}, gradients, stop);
  for (index_t r = 0; r < m_; ++r) {
    T* row = into(table) + tokens[static_cast<std::size_t>(r)] * d_;
    for (index_t c = 0; c < d_; ++c) row[c] += d_x_[static_cast<std::size_t>(r * d_ + c)];
  }
}

template class Pass<float>;
template class Pass<double>;

}  // namespace borel::probe
