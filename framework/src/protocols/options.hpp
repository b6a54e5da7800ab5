// A protocol whose options are declared once, as the parameters of a method are.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "protocols/protocol.hpp"

namespace borel {

/// @tparam Options `struct { ...; void declare(ParamBinder&); }`, optional `void check() const`
template <class Options>
class ProtocolWithOptions : public Protocol {
 public:
  std::string canonical_options(const MethodSpec& given) const final {
    Options options = read(given);
    ParamBinder write = ParamBinder::writing(who(), nullptr);
    options.declare(write);
    MethodSpec used;
    used.id = std::string(id());
    used.params = std::move(write.values());
    return used.text();
  }

  std::vector<ParamInfo> option_infos() const final {
    ParamBinder describe = ParamBinder::describing(who(), nullptr);
    Options().declare(describe);
    return std::move(describe.infos());
  }

 protected:
  Options read(const MethodSpec& given) const { return bind_params<Options>(who(), given, nullptr); }

 private:
  std::string who() const { return std::string("protocol ").append(id()); }
};

}  // namespace borel
