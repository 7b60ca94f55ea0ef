#!/bin/sh
# Puts Neovim >= 0.12 into one private folder, for the editor tests, on a Debian that is too old
# to have it. Nothing is installed: the packages of a newer release are unpacked, and the program
# runs on that release's own C library. Signatures are checked with the system's keyring.
#
#   get_neovim.sh [FOLDER]        default: .cache/nvim of the checkout; afterwards FOLDER/nvim runs
#
# Needs apt-get and dpkg-deb. About 15 MB to download and 70 MB on disk. Exit code 3: this system
# cannot give it (no apt, no network, no newer release); the tests are then skipped.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../../.cache/nvim}
suites=${FLEX_ASSIST_NVIM_SUITES:-"forky sid"}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

give_up() {
    echo "get_neovim: $1" >&2
    exit 3
}

recent_enough() {
    "$1" --version 2>/dev/null | head -n 1 | grep -Eq '^NVIM v(0\.(1[2-9]|[2-9][0-9])|[1-9])'
}

private_apt() {
    apt-get -qq \
        -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
        -o Dir::Etc::sourcelist="$work/newer.sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o APT::Install-Recommends=false \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true "$@"
}

fetch_from() {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$mirror" "$1" "$keyring" > "$work/newer.sources"
    private_apt update && private_apt --yes --download-only install neovim > /dev/null
}

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if recent_enough "$folder/nvim"; then
    "$folder/nvim" --version | head -n 1
    exit 0
fi
for program in apt-get dpkg-deb; do
    command -v "$program" > /dev/null || give_up "there is no $program here"
done
[ -r "$keyring" ] || give_up "there is no $keyring here"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
[ -n "$mirror" ] || give_up "apt knows no Debian mirror; run apt-get update first"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
: > "$work/status"
found=
for suite in $suites; do
    if fetch_from "$suite"; then
        found=$suite
        break
    fi
done
[ -n "$found" ] || give_up "none of the suites $suites of $mirror has neovim"

# Unpack beside the old one, then swap, so that a broken download leaves nothing half done.
mkdir "$work/root"
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done
loader=$(cd "$work/root" && find . -name 'ld-linux*.so.*' | head -n 1)
libraries=$(dirname "$(cd "$work/root" && find . -name 'libc.so.6' | head -n 1)")
[ -n "$loader" ] && [ -x "$work/root/usr/bin/nvim" ] || give_up "the packages of $found look different"
rm -rf "$folder/root" "$folder/nvim"
mv "$work/root" "$folder/root"

# The new loader is named outright: the program finds its own C library, its children the system's.
cat > "$folder/nvim" <<WRAPPER
#!/bin/sh
VIMRUNTIME='$folder/root/usr/share/nvim/runtime' exec '$folder/root/$loader' \\
    --library-path '$folder/root/$libraries' '$folder/root/usr/bin/nvim' "\$@"
WRAPPER
chmod +x "$folder/nvim"
recent_enough "$folder/nvim" || give_up "$found has $("$folder/nvim" --version | head -n 1)"
"$folder/nvim" --version | head -n 1
