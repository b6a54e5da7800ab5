// Prediction of a sample from its neighbours, with coefficients fitted to the surroundings of each sample.
#pragma once

#include <vector>

#include "lossless/pixel_planes.hpp"

namespace borel {

/// Which neighbours, fitted where.
struct PredictorShape {
  index_t n_own;     ///< nearest samples of the same plane
  index_t n_others;  ///< nearest samples of each other plane; the same pixel's known planes come on top
  index_t radius;    ///< training samples: up to so many rows above and columns to both sides
  double decay;      ///< weight of a training sample per row or column of distance
};

/// Weighted least squares over the known samples around (Li and Orchard, IEEE Trans. Image Process. 10 (2001), with weights
/// for nearness and for likeness of the neighbourhoods as in Ye and Hou, Proc. ICIP (2011)). Everything is relative to the
/// sample above, so constants are predicted exactly. One object per plane and shape; not for several threads at once.
class LocalPredictor {
 public:
  LocalPredictor(const PixelPlanes& planes, index_t plane, const PredictorShape& shape);
  /// A real number in [0, 255] from samples before (y, x, plane) only. O(T n^2 + n^3) for n neighbours and T training
  /// samples.
  double predict(index_t y, index_t x);

 private:
  struct Term {
    index_t at, above;  // offsets of the neighbour, and of the sample above in its plane
  };
  struct Segment {  // training samples side by side
    index_t dy, first, count;
  };
  /// Square roots of weights; 0 outside of the image.
  void weigh(index_t y, index_t x, const double* here);

  const PixelPlanes& planes_;
  index_t own_, own_above_;
  std::vector<Term> terms_;
  std::size_t n_likeness_;  // the first terms decide about likeness
  std::vector<Segment> segments_;
  std::vector<double> nearness_, root_weight_, now_, design_, gram_, solution_;
};

}  // namespace borel
