// Views of dense arrays. A view owns nothing; copies are cheap.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <span>
#include <type_traits>

namespace borel {

using index_t = std::ptrdiff_t;

/// View of a Rank-dimensional array. The last axis is contiguous (stride 1); the other axes may have any stride, so
/// [h, n, d] stored as [n, h, d] needs no copy. Strides count elements.
template <class T, int Rank>
class TensorView {
 public:
  using Shape = std::array<index_t, Rank>;

  TensorView() = default;

  /// Row-major and gapless.
  TensorView(T* data, Shape shape) : data_(data), shape_(shape) {
    index_t stride = 1;
    for (int axis = Rank - 1; axis >= 0; --axis) {
      strides_[axis] = stride;
      stride *= shape[axis];
    }
  }

  /// @pre strides[Rank - 1] == 1
  TensorView(T* data, Shape shape, Shape strides) : data_(data), shape_(shape), strides_(strides) {
    assert(strides[Rank - 1] == 1);
  }

  /// View of const elements from a view of mutable ones.
  template <class U>
  requires(std::is_same_v<const U, T>)
      TensorView(const TensorView<U, Rank>& other)  // NOLINT(google-explicit-constructor)
      : data_(other.data()), shape_(other.shape()), strides_(other.strides()) {}

  T* data() const { return data_; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  index_t shape(int axis) const { return shape_[static_cast<std::size_t>(axis)]; }
  index_t stride(int axis) const { return strides_[static_cast<std::size_t>(axis)]; }

  index_t size() const {
    index_t product = 1;
    for (index_t extent : shape_) product *= extent;
    return product;
  }
  bool empty() const { return size() == 0; }

  template <class... Index>
  requires(sizeof...(Index) == Rank) T& operator()(Index... indices) const {
    const Shape at{static_cast<index_t>(indices)...};
    index_t offset = 0;
    for (std::size_t axis = 0; axis < Rank; ++axis) {
      assert(at[axis] >= 0 && at[axis] < shape_[axis]);
      offset += at[axis] * strides_[axis];
    }
    return data_[offset];
  }

  /// The contiguous last axis at the given leading indices.
  template <class... Index>
  requires(sizeof...(Index) == Rank - 1) std::span<T> row(Index... indices)
  const {
    const std::array<index_t, Rank> at{static_cast<index_t>(indices)..., 0};
    index_t offset = 0;
    for (std::size_t axis = 0; axis + 1 < Rank; ++axis) {
      assert(at[axis] >= 0 && at[axis] < shape_[axis]);
      offset += at[axis] * strides_[axis];
    }
    return {data_ + offset, static_cast<std::size_t>(shape_[Rank - 1])};
  }

  /// The sub-array at index i of the first axis.
  TensorView<T, Rank - 1> operator[](index_t i) const requires(Rank > 1) {
    assert(i >= 0 && i < shape_[0]);
    typename TensorView<T, Rank - 1>::Shape shape{};
    typename TensorView<T, Rank - 1>::Shape strides{};
    for (std::size_t axis = 1; axis < Rank; ++axis) {
      shape[axis - 1] = shape_[axis];
      strides[axis - 1] = strides_[axis];
    }
    return {data_ + i * strides_[0], shape, strides};
  }

  /// Elements [begin, end) of one axis.
  TensorView slice(int axis, index_t begin, index_t end) const {
    assert(begin >= 0 && begin <= end && end <= shape(axis));
    TensorView part = *this;
    part.data_ += begin * stride(axis);
    part.shape_[static_cast<std::size_t>(axis)] = end - begin;
    return part;
  }

 private:
  T* data_ = nullptr;
  Shape shape_{};
  Shape strides_{};
};

}  // namespace borel
