#!/bin/sh
# Fuzzes every target of every crate that has a fuzz folder, on the stable toolchain.
#
#   scripts/fuzz.sh [SECONDS] [CRATE [TARGET]]
#
# SECONDS is for each target (default 20). A finding stops the run; its input lies in
# crates/CRATE/fuzz/artifacts/TARGET/ and belongs, once fixed, into fuzz/regressions/TARGET/.
# New inputs that libFuzzer finds go to a folder under target/, not to the committed corpus.
set -eu
cd "$(dirname "$0")/.."

seconds=${1:-20}
only_crate=${2:-*}
only_target=${3:-*}
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz passes. The sanitizer flags are unstable, hence RUSTC_BOOTSTRAP; --target keeps
# build scripts and procedural macros free of them.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Zsanitizer=address --cfg fuzzing"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz

found=0
for manifest in crates/$only_crate/fuzz/Cargo.toml; do
    [ -e "$manifest" ] || continue
    folder=$(dirname "$manifest")
    cargo build --release --manifest-path "$manifest" --target "$host" --bins
    for source in "$folder"/fuzz_targets/$only_target.rs; do
        [ -e "$source" ] || continue
        target=$(basename "$source" .rs)
        found=1
        echo "fuzz: $folder $target for $seconds s"
        mkdir -p "$folder/artifacts/$target" "$CARGO_TARGET_DIR/found/$target"
        set -- "$CARGO_TARGET_DIR/found/$target" "$folder/corpus/$target"
        [ -d "$folder/regressions/$target" ] && set -- "$@" "$folder/regressions/$target"
        "$CARGO_TARGET_DIR/$host/release/$target" "$@" \
            -max_total_time="$seconds" -timeout=10 -max_len=4096 \
            -verbosity=0 -print_final_stats=1 \
            -artifact_prefix="$folder/artifacts/$target/"
    done
done
[ "$found" = 1 ] || { echo "fuzz: no target found" >&2; exit 1; }
