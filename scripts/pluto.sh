#!/usr/bin/env bash
# Opens PLUTO. Where no market is named (GATEWAY=http://host:port) it is the local one, which is started if it doesn't run.
set -euo pipefail
programs=${1:?usage: pluto.sh FOLDER-OF-PROGRAMS}

if [[ -n ${GATEWAY:-} ]]; then
    export DEEPMARKET_GATEWAY=$GATEWAY
elif ! "$programs/deepmarket" prices >/dev/null 2>&1; then
    echo "No market runs on this computer: starting a local one (stop it with: $programs/deepmarket down)"
    "$programs/deepmarket" up --detach
fi
exec "$programs/pluto"
