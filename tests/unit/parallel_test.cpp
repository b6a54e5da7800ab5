#include "borel/parallel.hpp"

#include <atomic>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include "borel/error.hpp"

namespace {

using borel::index_t;

TEST(ParallelFor, VisitsEveryIndexOnceInTheDeclaredBlocks) {
  for (index_t n : {0, 1, 7, 8, 9, 1000}) {
    std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
    std::atomic<bool> aligned{true};
    borel::parallel_for(n, 8, [&](index_t begin, index_t end) {
      if (begin % 8 != 0 || end != std::min(n, begin + 8)) aligned = false;
      for (index_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
    });
    EXPECT_TRUE(aligned);
    for (const auto& count : visits) EXPECT_EQ(count, 1);
  }
}

TEST(ParallelFor, RethrowsTheFirstException) {
  EXPECT_THROW(borel::parallel_for(100, 1,
                                   [](index_t begin, index_t) {
                                     if (begin == 42) throw std::runtime_error("x");
                                   }),
               std::runtime_error);
}

double sum_of_sines(int threads) {
  tbb::global_control limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
  tbb::task_arena arena(threads);
  return arena.execute([] {
    return borel::deterministic_reduce(
        index_t{100001}, 64, 0.0,
        [](index_t begin, index_t end) {
          double sum = 0;
          for (index_t i = begin; i < end; ++i) sum += std::sin(static_cast<double>(i)) * 1e3;
          return sum;
        },
        [](double a, double b) { return a + b; });
  });
}

TEST(DeterministicReduce, SameBitsForAnyNumberOfThreads) {
  const double one = sum_of_sines(1);
  for (int threads : {1, 2, 3, 4, 8}) EXPECT_EQ(sum_of_sines(threads), one) << threads;
}

TEST(ParallelFor, ANestedLoopDoesNotPickUpOuterWork) {
  thread_local int depth = 0;
  std::atomic<int> reentered{0};
  tbb::global_control limit(tbb::global_control::max_allowed_parallelism, 4);
  tbb::task_arena arena(4);
  arena.execute([&] {
    borel::parallel_for(200, 1, [&](index_t, index_t) {
      if (++depth > 1) ++reentered;
      borel::parallel_for(64, 1, [&](index_t begin, index_t) {
        volatile double x = static_cast<double>(begin);
        for (int i = 0; i < 200; ++i) x = std::sqrt(x + 1);
      });
      --depth;
    });
  });
  EXPECT_EQ(reentered, 0);
}

TEST(Scratch, BlocksAreAlignedAndDoNotOverlap) {
  borel::Scratch<float> a(100);
  borel::Scratch<double> b(1 << 16);  // larger than the first chunk of the arena
  borel::Scratch<float> c(1);
  for (void* p : {static_cast<void*>(a.data()), static_cast<void*>(b.data()), static_cast<void*>(c.data())})
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 64, 0u);
  for (float& x : a.span()) x = 1;
  for (double& x : b.span()) x = 2;
  c[0] = 3;
  for (float x : a.span()) ASSERT_EQ(x, 1);
  for (double x : b.span()) ASSERT_EQ(x, 2);
}

TEST(Scratch, GivesBackInReverseOrderAndReusesMemory) {
  void* first = nullptr;
  for (int round = 0; round < 10; ++round) {
    borel::Scratch<double> outer(1 << 15);
    for (int i = 0; i < 5; ++i) borel::Scratch<double>(1 << 18)[0] = 1;
    if (round == 2) first = outer.data();
    if (round > 2) {
      EXPECT_EQ(outer.data(), first);  // settled: no allocation any more
    }
  }
}

#if defined(__SANITIZE_ADDRESS__)
TEST(ScratchDeathTest, AddressSanitizerSeesBothEndsOfAPiece) {
  const borel::Scratch<float> before(16), piece(10), after(16);
  volatile float* const x = piece.data();
  EXPECT_TRUE(std::isnan(x[9]));  // not written yet
  EXPECT_DEATH(x[10] = 1, "use-after-poison");
  EXPECT_DEATH(x[-1] = 1, "use-after-poison");
  float* gone = nullptr;
  { gone = borel::Scratch<float>(10).data(); }
  EXPECT_DEATH(*static_cast<volatile float*>(gone) = 1, "use-after-poison");
}
#endif

TEST(StopToken, StopsByFlagAndByDeadline) {
  EXPECT_FALSE(borel::StopToken().stop_requested());
  std::atomic<bool> flag{false};
  const borel::StopToken by_flag(&flag, borel::StopToken::Clock::time_point::max());
  EXPECT_NO_THROW(by_flag.throw_if_stopped());
  flag = true;
  EXPECT_THROW(by_flag.throw_if_stopped(), borel::Stopped);
  const borel::StopToken late(nullptr, borel::StopToken::Clock::now() - std::chrono::seconds(1));
  EXPECT_THROW(late.throw_if_stopped(), borel::Stopped);
}

}  // namespace
