#!/usr/bin/env bash
# Fuzzes the parsers of bytes from outside: all targets, or those that are named, one after the other.
#   RUNS=10000000 scripts/fuzz.sh transaction block     so many inputs each
#   SECONDS_EACH=60 scripts/fuzz.sh                     so long each (the default)
# Needs nothing but cargo and a C++ compiler. What it finds stops it, and lies in fuzz/found/ as a file that can become a seed.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
TARGET=${FUZZ_TARGET_DIR:-$PWD/target}
HOST=$(rustc -vV | sed -n 's/^host: //p')

CARGO_TARGET_DIR=$TARGET RUSTC_WRAPPER=$PWD/rustc.sh cargo build --release --locked --target "$HOST"
PROGRAM=$TARGET/$HOST/release/deepmarket-fuzz
if [ $# -eq 0 ]; then
  # shellcheck disable=SC2046
  set -- $("$PROGRAM")
fi

LIMITS=(-rss_limit_mb=2048 -timeout=10)
if [ -n "${RUNS:-}" ]; then LIMITS+=("-runs=$RUNS"); else LIMITS+=("-max_total_time=${SECONDS_EACH:-60}"); fi
mkdir -p found
# Files that targets write and read again are not worth a disk.
[ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && export TMPDIR=/dev/shm
for name in "$@"; do
  learnt=$TARGET/learnt/$name
  mkdir -p "$learnt"
  echo "== $name"
  if ! FUZZ_TARGET=$name "$PROGRAM" "$learnt" "corpus/$name" "${LIMITS[@]}" -print_final_stats=1 -artifact_prefix="found/$name-" \
    > "$TARGET/$name.log" 2>&1; then
    tail -n 60 "$TARGET/$name.log"
    echo "$name: the input is in fuzz/found/; once mended, it belongs into fuzz/corpus/$name/"
    exit 1
  fi
  grep -E "DONE|stat::number_of_executed_units|stat::average_exec_per_sec|stat::peak_rss_mb" "$TARGET/$name.log"
done
