# Install tree: bin/borel, lib/libborel.so, lib/borel/plugins, include/borel, lib/cmake/borel, share/borel.
include(CMakePackageConfigHelpers)
set(borel_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/borel)

set_target_properties(borel_program PROPERTIES EXPORT_NAME program)
install(TARGETS borel borel_program EXPORT borel_targets)
install(DIRECTORY framework/include/ ${PROJECT_BINARY_DIR}/generated/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp")
install(EXPORT borel_targets NAMESPACE borel:: FILE borelTargets.cmake DESTINATION ${borel_package_dir})
configure_package_config_file(cmake/borelConfig.cmake.in ${PROJECT_BINARY_DIR}/borelConfig.cmake
                              INSTALL_DESTINATION ${borel_package_dir})
# Before 1.0 every minor version may change an interface; the fingerprint in the plugins is exact anyway.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/borelConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/borelConfig.cmake ${PROJECT_BINARY_DIR}/borelConfigVersion.cmake cmake/BorelPlugin.cmake
        DESTINATION ${borel_package_dir})
foreach(folder IN ITEMS studies datasets)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${folder})
    install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_DATADIR}/borel)
  endif()
endforeach()
install(DIRECTORY apps/borel/templates DESTINATION ${CMAKE_INSTALL_DATADIR}/borel)
