# borel_add_plugin(<family> <id> SOURCES <file>... [LIBS <target>...])
