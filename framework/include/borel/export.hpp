// Visibility of what libborel offers to plugins.
#pragma once

#define BOREL_EXPORT __attribute__((visibility("default")))
