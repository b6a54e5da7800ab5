// DRAFT. What rotary encodings have in common: parameters, angles, and bands by distance.
//
// D   rotated components; m = 0 .. D/2 - 1 their pairs; theta_m = theta_base^(-2 m / D)
// L   length of training; s = longest length / L
#pragma once

#include <cstdint>
#include <vector>

#include "borel/parallel.hpp"
#include "borel/params.hpp"
#include "borel/position.hpp"

namespace borel {

/// Parameters that every rotary encoding has. A method calls declare() and check() from its own.
struct BOREL_EXPORT RotaryParams {
  double theta_base = 10000;
  Pairing pairing = Pairing::half;
  std::int64_t n_rot_dims = 0;  ///< 0 = all of d_head; less is partial rotary

  void declare(ParamBinder& p);
  void check() const;

  /// D for this context. @throws MethodError when it is odd or larger than d_head
  index_t dims(const PositionContext& context) const;
  /// theta_m. @throws as dims()
  PositionTable angles(const PositionContext& context) const;
  /// A plan with pairing and n_rot_dims set and these bands.
  PositionPlan plan(const PositionContext& context, std::vector<Band> bands) const;
};

/// Length of training as a parameter; 0 takes the one of the context.
struct BOREL_EXPORT TrainLengthParam {
  std::int64_t train_length = 0;
  void declare(ParamBinder& p);
  bool from_context() const { return train_length == 0; }
  index_t in(const PositionContext& context) const {
    return from_context() ? context.train_length : train_length;
  }
};

/// The factor s of encodings that squeeze longer contexts into the trained range. 0 takes max(1, longest length / L) from
/// the context, so that the same factor holds for every call of an evaluation.
struct BOREL_EXPORT LengthScaleParam {
  double scale = 0;
  TrainLengthParam train;
  void declare(ParamBinder& p);
  bool needs_train_length() const { return scale == 0 && train.from_context(); }
  double in(const PositionContext& context) const;
};

/// Positions by functions of the token: query i at query(i), key j at key(j), one axis.
BOREL_EXPORT Band band_at(const PositionContext& context, PositionTable angle,
                          FunctionRef<double(index_t)> query, FunctionRef<double(index_t)> key);

/// One band over all pairs with query i at i and key j at j.
BOREL_EXPORT Band plain_band(const PositionContext& context, PositionTable angle);

/// Bands of encodings that keep near pairs and compress far ones (ReRoPE, Leaky ReRoPE, Self-Extend, LM-Infinite):
///   r~ = r                                    |r| < window
///   r~ = far(i) - far(j) + shift              r >= window
///   r~ = far(i) - far(j) - shift              r <= -window, without a causal mask
/// Each tile inside one band costs one product. @pre window >= 1
BOREL_EXPORT std::vector<Band> near_far_bands(const PositionContext& context, PositionTable angle,
                                              index_t window, double shift, FunctionRef<double(index_t)> far);

}  // namespace borel
