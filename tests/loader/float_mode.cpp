// What linking with -ffast-math does to a program: denormals become zero in the whole process.
#include "borel/plugin.hpp"

__attribute__((constructor)) static void change_float_mode() {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040u);
#endif
}

BOREL_PLUGIN(registry) {}
