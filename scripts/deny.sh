#!/usr/bin/env bash
# Licences, sources, versions and known vulnerabilities of all crates that any part is built from (deny.toml): `cargo deny`.
# Brings cargo-deny where it is missing: it is built once, beside the target folder, which takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=0.20.2
if [ -n "${CARGO_TARGET_DIR:-}" ]; then TOOLS=$(dirname "$CARGO_TARGET_DIR")/tools; else TOOLS=target/tools; fi

if [ -x "$TOOLS/bin/cargo-deny" ] && [ "$("$TOOLS/bin/cargo-deny" --version)" = "cargo-deny $VERSION" ]; then
  DENY=$TOOLS/bin/cargo-deny
elif command -v cargo-deny >/dev/null; then
  DENY=cargo-deny
else
  echo "Building cargo-deny $VERSION into $TOOLS: some minutes, once." >&2
  # It reads text for a minute at most: a quick build is worth more than a quick program.
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_DEBUG=false nice cargo install --locked --quiet --version "$VERSION" --root "$TOOLS" \
    --target-dir "$TOOLS/build" cargo-deny
  rm -rf "$TOOLS/build"
  DENY=$TOOLS/bin/cargo-deny
fi

"$DENY" --workspace --locked check --hide-inclusion-graph bans licenses sources
# The database of advisories is a repository on the internet, which not every machine reaches.
if timeout 60 "$DENY" --workspace --locked fetch db >/dev/null 2>&1; then
  "$DENY" --workspace --locked check --hide-inclusion-graph --disable-fetch advisories
else
  echo "The database of advisories (github.com/rustsec/advisory-db) can't be reached from here: advisories were not checked." >&2
fi
