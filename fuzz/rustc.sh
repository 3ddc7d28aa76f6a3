#!/bin/sh
# The compiler, as cargo calls it (RUSTC_WRAPPER): our own crates, and the parsers that they trust, are built so that libFuzzer
# sees which edges an input takes and what it is compared with. All of this is in stable compilers; no sanitizer is needed.
rustc=$1
shift
name=
target=
previous=
for argument in "$@"; do
  [ "$previous" = --crate-name ] && name=$argument
  [ "$previous" = --target ] && target=$argument
  previous=$argument
done
case ${target:+$name} in # Macros are built for the compiler itself, without a target.
  deepmarket_fuzz) ;;
  deepmarket_* | serde_json | toml | toml_parser | winnow | safetensors | csv | csv_core | png | zune_jpeg | zip | parquet | bao_tree | multiaddr)
    exec "$rustc" "$@" -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
