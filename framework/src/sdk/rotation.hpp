// Rotation of query and key rows, in two halves so that heads share the sines and cosines.
#pragma once

#include <span>

#include "borel/attention.hpp"

namespace borel {

/// cosine, sine [n, n_rot_dims / 2] of sum_a angle[m, a] * position[t, a].
void rotation_table(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                    float* cosine, float* sine);

/// As rotate_rows, with the table of these rows; cosine == nullptr: no rotation, amplitude only.
void apply_rotation(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                    const float* cosine, const float* sine, int sign, double amplitude_origin,
                    TensorView<const float, 2> in, TensorView<float, 2> out);

/// d_angle [n_rot_dims / 2, n_axes] += the gradient with respect to the angles, from rows after their rotation and the
/// gradient with respect to them: a score depends on an angle through phases angle * position, on both sides alike, and
/// d / d phase (x, y) = (-y, x).
void add_angle_gradient(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                        TensorView<const float, 2> rotated, TensorView<const float, 2> d_rotated,
                        std::span<double> d_angle);

}  // namespace borel
