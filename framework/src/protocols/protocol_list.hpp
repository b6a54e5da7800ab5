// One function per protocol; protocols.cpp lists them.
#pragma once

#include "protocols/protocol.hpp"

namespace borel {

const Protocol& attention_concentration();
const Protocol& attention_cost();
const Protocol& attention_denoise();
const Protocol& attention_diffusion();
const Protocol& attention_mqar();
const Protocol& attention_recall();
const Protocol& density_fit();
const Protocol& density_lossless();
const Protocol& density_sampling();
const Protocol& density_stream();
const Protocol& density_table();
const Protocol& optimizer_convergence();
const Protocol& optimizer_flow();
const Protocol& position_extrapolation();
const Protocol& position_response();

}  // namespace borel
