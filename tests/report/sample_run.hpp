// A made-up run with everything that a report must cope with. Its numbers are drawn from fixed streams.
#pragma once

#include "report/report.hpp"

namespace borel {

/// Several protocols; failures of every kind; curves on linear and log axes that end early; pictures;
/// timings; hostile text.
RunResults sample_run();
ProtocolTable sample_protocols();

}  // namespace borel
