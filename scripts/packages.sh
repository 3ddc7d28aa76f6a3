#!/usr/bin/env bash
# Installs what the build needs beside Rust, Node and git. The one place that names system packages.
set -euo pipefail

# g++: RocksDB is C++. libclang-dev: its bindings are generated from its headers.
packages=(g++ libclang-dev)

if ! command -v dpkg-query >/dev/null; then
    command -v c++ >/dev/null && exit 0
    echo "This is not a Debian-like system. The build needs a C++20 compiler and libclang: install them, then run again." >&2
    exit 2
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [[ $status == "install ok installed" ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
    as_root=(sudo)
fi
echo "The build needs these system packages, which are not installed yet: ${missing[*]}"
echo "Installing them: ${as_root[*]:+${as_root[*]} }apt-get install ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "Installed."
