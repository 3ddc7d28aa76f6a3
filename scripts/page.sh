#!/usr/bin/env bash
# Builds PLUTO's page into desktop/ui/dist, where it or its packages changed; with the argument `check` also checks its types and runs its tests.
set -euo pipefail
cd "$(dirname "$0")/../desktop/ui"

command -v npm >/dev/null || { echo "PLUTO's page is built by Node.js, and npm is missing: install Node.js 20 or later" >&2; exit 2; }
if [[ ! -f node_modules/.package-lock.json || package-lock.json -nt node_modules/.package-lock.json ]]; then
    echo "Getting the page's packages"
    npm ci --no-audit --no-fund --loglevel=error >/dev/null
fi
if [[ ${1:-} == check ]]; then
    npm run --silent check
    npm run --silent test
fi
if [[ ! -f dist/index.html || -n $(find src index.html package-lock.json vite.config.ts -newer dist/index.html -print -quit) ]]; then
    npm run --silent build -- --logLevel warn
fi
