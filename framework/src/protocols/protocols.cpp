#include <array>

#include "borel/error.hpp"
#include "protocols/protocol.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {

std::span<const Protocol* const> protocols() {
  static const std::array list{
      &attention_concentration(), &attention_cost(),         &attention_denoise(), &attention_diffusion(),
      &attention_mqar(),          &attention_recall(),       &density_fit(),       &density_lossless(),
      &density_sampling(),        &density_stream(),         &density_table(),     &optimizer_convergence(),
      &optimizer_flow(),          &position_extrapolation(), &position_response()};
  return list;
}

const Protocol& find_protocol(std::string_view id) {
  std::vector<std::string> known;
  for (const Protocol* protocol : protocols()) {
    if (protocol->id() == id) return *protocol;
    known.emplace_back(protocol->id());
  }
  std::string text = "no protocol named '" + std::string(id) + "'" + did_you_mean(id, known) + " Known:";
  for (const std::string& name : known) text.append(" ").append(name);
  throw Error(text);
}

}  // namespace borel
