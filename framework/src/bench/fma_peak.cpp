// Registers only: independent multiply-adds, enough of them to hide the latency of 4 to 5 cycles on two
// units.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/fma_peak.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include "bench/ceilings.hpp"

HWY_BEFORE_NAMESPACE();
namespace borel::bench {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

double FmaLoop(long n_rounds, float& sink) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f), addend = hn::Set(d, 1e-3f);
  auto a0 = hn::Iota(d, 1.f), a1 = hn::Iota(d, 2.f), a2 = hn::Iota(d, 3.f), a3 = hn::Iota(d, 4.f);
  auto a4 = hn::Iota(d, 5.f), a5 = hn::Iota(d, 6.f), a6 = hn::Iota(d, 7.f), a7 = hn::Iota(d, 8.f);
  auto a8 = hn::Iota(d, 9.f), a9 = hn::Iota(d, 10.f), a10 = hn::Iota(d, 11.f), a11 = hn::Iota(d, 12.f);
  for (long i = 0; i < n_rounds; ++i) {
    a0 = hn::MulAdd(a0, factor, addend);
    a1 = hn::MulAdd(a1, factor, addend);
    a2 = hn::MulAdd(a2, factor, addend);
    a3 = hn::MulAdd(a3, factor, addend);
    a4 = hn::MulAdd(a4, factor, addend);
    a5 = hn::MulAdd(a5, factor, addend);
    a6 = hn::MulAdd(a6, factor, addend);
    a7 = hn::MulAdd(a7, factor, addend);
    a8 = hn::MulAdd(a8, factor, addend);
    a9 = hn::MulAdd(a9, factor, addend);
    a10 = hn::MulAdd(a10, factor, addend);
    a11 = hn::MulAdd(a11, factor, addend);
  }
  const auto sum = hn::Add(
      hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)),
      hn::Add(hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)), hn::Add(hn::Add(a8, a9), hn::Add(a10, a11))));
  sink = hn::GetLane(hn::SumOfLanes(d, sum));
  return 2.0 * 12.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(n_rounds);
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::bench {

HWY_EXPORT(FmaLoop);

double run_fma_loop(long n_rounds, float& sink) { return HWY_DYNAMIC_DISPATCH(FmaLoop)(n_rounds, sink); }

std::string best_instruction_set() {
  const std::int64_t supported = hwy::SupportedTargets();
  return hwy::TargetName(supported & -supported);  // the lowest bit is the best
}

}  // namespace borel::bench
#endif
