# Language level, warnings, sanitizers and output folders for everything in this tree.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

add_library(borel_warnings INTERFACE)
target_compile_options(borel_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                       -Wnon-virtual-dtor -Woverloaded-virtual $<$<BOOL:${BOREL_WERROR}>:-Werror>)

if(BOREL_SANITIZE)
  add_compile_options(-fsanitize=${BOREL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BOREL_SANITIZE})
endif()

# Files that call TBB's templates: see framework/src/sdk/task_order.hpp.
function(borel_uninstrumented_threads target)
  if(BOREL_SANITIZE MATCHES "thread")
    set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target} PROPERTIES
                                COMPILE_OPTIONS -fno-sanitize=thread COMPILE_DEFINITIONS BOREL_THREAD_SANITIZER)
  endif()
endfunction()

# The program looks for studies and small data files in ../share/borel of its own folder, here as in an installation.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/share/borel)
foreach(folder IN ITEMS studies datasets)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${folder} ${PROJECT_BINARY_DIR}/share/borel/${folder} SYMBOLIC)
endforeach()
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/apps/borel/templates ${PROJECT_BINARY_DIR}/share/borel/templates SYMBOLIC)
