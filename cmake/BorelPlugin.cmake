# borel_add_plugin(<family> <id> SOURCES <file>... [LIBS <target>...])
#
# Builds the plugin file <build>/plugins/<family>.<id>.so and installs it to lib/borel/plugins. Used in this tree and,
# through find_package(borel), outside of it. LIBS are linked privately; plugins link no HDF5 and no threads library.
include_guard(GLOBAL)
include(GNUInstallDirs)

function(borel_add_plugin family id)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES;LIBS")
  set(call "borel_add_plugin(${family} ${id})")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${call}: unknown argument '${arg_UNPARSED_ARGUMENTS}'; expected SOURCES and LIBS")
  endif()
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "${call}: SOURCES is missing, e.g. SOURCES ${id}/${id}.cpp")
  endif()
  foreach(word IN ITEMS "${family}" "${id}")
    if(NOT word MATCHES "^[a-z]([a-z0-9]|_[a-z0-9])*$")
      message(FATAL_ERROR "${call}: '${word}' must be snake_case: lower-case words, digits, single underscores")
    endif()
  endforeach()

  set(target plugin_${family}_${id})
  add_library(${target} MODULE ${arg_SOURCES})
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_definitions(${target} PRIVATE BOREL_PLUGIN_ID="${family}.${id}")
  target_link_libraries(${target} PRIVATE borel::borel ${arg_LIBS} $<TARGET_NAME_IF_EXISTS:borel_warnings>)
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME ${family}.${id} SUFFIX ".so"
    CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins
    INSTALL_RPATH "$ORIGIN/../..")
  if(NOT BOREL_SANITIZE AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    target_link_options(${target} PRIVATE -Wl,-z,defs)  # a missing symbol fails the link, not the load
  endif()
  install(TARGETS ${target} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/borel/plugins)
  set_property(GLOBAL APPEND PROPERTY BOREL_PLUGIN_IDS ${family}.${id})
  set_property(GLOBAL APPEND PROPERTY BOREL_PLUGIN_TARGETS ${target})
endfunction()
