#!/bin/bash
# borel data from end to end: what is printed, what is refused, and the exit codes.
# usage: cli_test.sh <borel program> <scratch folder>
set -u
borel=$1
rm -rf "$2" && mkdir -p "$2" && cd "$2" || exit 1
export BOREL_DATA=$2/data
failures=0
# expect <exit code> <text that the output must contain> <arguments>...
expect() {
  local code=$1 text=$2 output
  shift 2
  output=$("$borel" data "$@" 2>&1)
  local got=$?
  if [ $got != "$code" ] || [[ $output != *"$text"* ]]; then
    echo "FAIL: borel data $*: exit $got (want $code), want text: $text"
    echo "$output" | head -5
    failures=$((failures + 1))
  fi
}
expect 0 'galaxies ' list
expect 0 '"state": "-"' list --json
expect 0 'made' make galaxies
expect 0 'was there' make galaxies
expect 0 '"state": "made"' list --json
expect 0 'Corona Borealis' info galaxies
expect 0 '"content_digest"' info galaxies --json
expect 0 'good' verify galaxies
expect 0 'good' verify --all
expect 2 "did you mean 'galaxies'?" make galaxis
expect 2 'run: borel data make acidity' info acidity
expect 2 '--all' make
expect 2 'name datasets' verify
printf 'a,b\n1,2\n3,4\n' > good.csv
printf 'a,b\n1,2\n3,x\n' > bad.csv
expect 0 'mine.h5' import mine good.csv --kind samples --column b
expect 2 'replace it with --force' import mine good.csv --kind samples
expect 0 'mine.h5' import mine good.csv --kind samples --column b --force
expect 0 'imported' list
expect 2 "bad.csv:3: field 2 (b) is 'x'" import other bad.csv --kind samples
expect 2 "did you mean 'samples'?" import mine good.csv --kind sample
expect 2 'id of a recipe' import galaxies good.csv --kind samples
expect 2 'small letters' import Mine good.csv --kind samples
expect 2 'must read <attribute>=<value>' import mine x=good.csv --kind problem --set objective
expect 0 'x.csv' export mine --format csv -o out
[ "$(cat out/x.csv)" = $'x\n2\n4' ] || { echo "FAIL: exported CSV differs"; failures=$((failures + 1)); }
expect 2 'no array /y' export mine --array y
# Damage to a file by path: one message, exit code 2, no crash.
cp data/galaxies.h5 damaged.h5 && truncate -s 3000 damaged.h5
expect 2 'truncated' verify damaged.h5
expect 2 'truncated' info damaged.h5
expect 2 'no such file' verify ./none.h5
# Without a network a package recipe ends with advice; apt-get is replaced by a program that fails.
mkdir fake && printf '#!/bin/sh\necho "E: no network" >&2\nexit 100\n' > fake/apt-get && chmod +x fake/apt-get
if [ ! -e /usr/lib/R/site-library/janeaustenr/data/Rdata.rdb ]; then
  PATH=$PWD/fake:$PATH expect 2 'E: no network' make text_austen
fi
[ $failures = 0 ]
