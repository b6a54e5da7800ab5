# Writes borel/fingerprint.hpp: a hash of all public headers. Run by the build with -DINCLUDE_DIR=... -DOUTPUT=...
file(GLOB_RECURSE headers RELATIVE ${INCLUDE_DIR} ${INCLUDE_DIR}/*.hpp)
list(SORT headers)
set(all "")
foreach(header IN LISTS headers)
  file(SHA256 ${INCLUDE_DIR}/${header} hash)
  string(APPEND all "${header} ${hash}\n")
endforeach()
string(SHA256 fingerprint "${all}")
string(SUBSTRING ${fingerprint} 0 16 fingerprint)
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[
// Made by the build: first 64 bits of a SHA-256 over the public headers.
#pragma once
#define BOREL_HEADERS_FINGERPRINT "@fingerprint@"
]] @ONLY)
