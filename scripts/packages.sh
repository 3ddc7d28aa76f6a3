#!/usr/bin/env bash
# Installs what the build needs beside Rust, Node and git; with the argument `pluto` also what the desktop wallet needs, with `test` that and
# what only the tests need. The one place that names system packages.
set -euo pipefail

# g++: RocksDB is C++. libclang-dev: its bindings are generated from its headers.
packages=(g++ libclang-dev)
programs=(c++)
needs="The build needs a C++20 compiler and libclang"
if [[ ${1:-} == pluto || ${1:-} == test ]]; then
    packages+=(libwebkit2gtk-4.1-dev librsvg2-dev pkg-config)
    programs+=(pkg-config)
    needs+="; PLUTO needs GTK's web view (WebKitGTK 4.1 and librsvg, with headers)"
fi
if [[ ${1:-} == test ]]; then
    # chromium: the explorer page is tested in it. openssh-server, openssh-client: lending over SSH is tested with a real sshd.
    # nftables: a machine is cut off by a firewall. xvfb, webkit2gtk-driver: PLUTO's window is driven on a virtual screen.
    packages+=(chromium openssh-server openssh-client nftables xvfb xauth webkit2gtk-driver)
    programs+=(chromium ssh ssh-keygen nft Xvfb WebKitWebDriver)
    needs+="; the tests need Chromium, OpenSSH, nftables, Xvfb and WebKitWebDriver"
fi

if ! command -v dpkg-query >/dev/null; then
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null && continue
        echo "This is not a Debian-like system. $needs: install what is missing, then run again." >&2
        exit 2
    done
    exit 0
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
echo "$needs. These system packages are not installed yet: ${missing[*]}"
echo "Installing them: ${as_root[*]:+${as_root[*]} }apt-get install ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
if [[ " ${missing[*]} " == *" openssh-server "* ]] && command -v systemctl >/dev/null; then
    # Debian starts it with its installation. The tests run one of their own on loopback: this machine gets no new open door.
    "${as_root[@]}" systemctl disable --now ssh.service ssh.socket >/dev/null 2>&1 || true
fi
echo "Installed."
