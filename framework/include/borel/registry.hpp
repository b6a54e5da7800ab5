// All methods that are known to a program, by family and id. Filled by plugins, then only read.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "borel/params.hpp"
#include "borel/trait_list.hpp"

namespace borel {

/// What a reader should know about a method. summary and source must not be empty.
struct MethodInfo {
  std::string summary = {};     ///< one line
  std::string formula = {};     ///< plain text or TeX-like, as in the source
  std::string source = {};      ///< paper, section, equation; arXiv number or DOI
  std::string complexity = {};  ///< time and memory in n, d, ...
  std::string notes = {};       ///< where we differ from the source, traps
  bool deterministic = true;    ///< same input and seed give the same bits
};

/// One registered method without its interface type: enough for lists, help, checks and ids.
struct BOREL_EXPORT MethodEntry {
  std::string family, id;
  std::string origin;  ///< file that registered it
  MethodInfo info;
  std::vector<ParamInfo> params;
  /// All parameters with the values that would be used, `family/id{...}`, names sorted: the text that cell
  /// ids are made of. @throws ParamError
  std::function<std::string(const MethodSpec&)> canonical;
  /// Traits of the method made with these parameters. @throws ParamError, MethodError
  std::function<TraitList(const MethodSpec&)> traits;

  virtual ~MethodEntry();
};

/// One registered method of a family.
template <class Interface>
struct Method final : MethodEntry {
  std::function<std::unique_ptr<Interface>(const MethodSpec&)> make;  ///< @throws ParamError, MethodError
};

/// Threads: filling is for one thread; afterwards any number may read. Addresses are stable; the registry
/// outlives the methods made from it.
class BOREL_EXPORT Registry {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  /// Adds a method. Impl has a nested `struct Params { void declare(ParamBinder&); }` and is constructible
  /// from `const Params&` or from `(const Params&, const Registry&)`: the latter for methods made of other
  /// methods.
  /// @throws RegistryError when the id is taken (names both files), not snake_case, or a declaration is not
  /// complete
  template <class Interface, class Impl>
  void add(std::string id, MethodInfo info) {
    static_assert(std::is_base_of_v<Interface, Impl>, "the method must derive from its family's interface");
    using Params = typename Impl::Params;
    auto method = std::make_unique<Method<Interface>>();
    const std::string who = std::string(Interface::family).append(" ").append(id);
    const Registry* self = this;
    method->family = std::string(Interface::family);
    method->id = std::move(id);
    method->info = std::move(info);
    ParamBinder describe = ParamBinder::describing(who, self);
    Params().declare(describe);
    method->params = std::move(describe.infos());
    method->make = [who, self](const MethodSpec& spec) -> std::unique_ptr<Interface> {
      const Params params = bind_params<Params>(who, spec, self);
      if constexpr (std::is_constructible_v<Impl, const Params&, const Registry&>)
        return std::make_unique<Impl>(params, *self);
      else
        return std::make_unique<Impl>(params);
    };
    method->canonical = [who, id = method->id, self](const MethodSpec& spec) {
      Params params = bind_params<Params>(who, spec, self);
      ParamBinder write = ParamBinder::writing(who, self);
      params.declare(write);
      return MethodSpec{std::string(Interface::family), id, std::move(write.values())}.text();
    };
    method->traits = [make = method->make](const MethodSpec& spec) { return make(spec)->describe(); };
    insert(std::move(method));
  }

  /// @throws RegistryError with the nearest and all known ids
  template <class Interface>
  const Method<Interface>& get(std::string_view id) const {
    return static_cast<const Method<Interface>&>(entry(Interface::family, id));
  }

  /// A method with its parameters. @throws RegistryError, ParamError, MethodError
  template <class Interface>
  std::unique_ptr<Interface> make(const MethodSpec& spec) const {
    expect_family(spec, Interface::family);
    return get<Interface>(spec.id).make(spec);
  }
  template <class Interface>
  std::unique_ptr<Interface> make(std::string_view spec) const {
    return make<Interface>(parse_method_spec(spec, Interface::family));
  }

  template <class Interface>
  std::vector<std::string> ids() const {
    return ids(Interface::family);
  }
  std::vector<std::string> ids(std::string_view family) const;  ///< sorted
  std::vector<std::string> families() const;                    ///< sorted; those with at least one method

  /// @throws RegistryError with the nearest and all known ids
  const MethodEntry& entry(std::string_view family, std::string_view id) const;
  /// All methods, sorted by family and id.
  std::vector<const MethodEntry*> entries() const;
  /// Full used parameters of a spec, see MethodEntry::canonical. @pre spec.family is set @throws as make()
  std::string canonical(const MethodSpec& spec) const;

  /// Runs `register_into` on this registry; methods added by it get this origin. When it throws, the registry
  /// is as before, and the exception goes on.
  void add_from(std::string_view origin, FunctionRef<void(Registry&)> register_into);

 private:
  void insert(std::unique_ptr<MethodEntry> method);
  static void expect_family(const MethodSpec& spec, std::string_view family);

  std::map<std::string, std::map<std::string, std::unique_ptr<MethodEntry>, std::less<>>, std::less<>>
      methods_;
  std::string origin_ = "this program";
  std::vector<const MethodEntry*> added_;
};

}  // namespace borel
