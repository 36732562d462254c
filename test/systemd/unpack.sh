#!/usr/bin/env bash
# unpack.sh 254|257: unpacks that systemd from Debian's mirror into node_modules/.cache/systemd-VERSION. Nothing is installed: the tests boot it in a box, laid
# over /usr. 254 is the first version with $FDSTORE and FileDescriptorStorePreserve= (and has Type=notify-reload, as 253), and the last for a Debian 12; 257 is that
# of Debian 13, and brings its own C library.
set -euo pipefail
version=$1
case $version in
  254) suite=bookworm-backports packages=(systemd libsystemd-shared libsystemd0) ;;
  257) suite=trixie packages=(systemd libsystemd-shared libsystemd0 libc6 libssl3t64) ;;
  *) printf 'no such version here: %s\n' "$version" >&2 && exit 2 ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=$root/node_modules/.cache/systemd-$version
if [ -e "$target/usr/lib/systemd/systemd" ]; then exit 0; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{sources,lists/partial,cache/archives/partial,debs,tree/usr}
cat >"$scratch/sources/debian.sources" <<SOURCES
Types: deb
URIs: http://deb.debian.org/debian
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
apt=(apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$scratch/sources" -o Dir::State::Lists="$scratch/lists"
  -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$scratch/debs" && "${apt[@]}" download "${packages[@]}")
for deb in "$scratch"/debs/*.deb; do dpkg -x "$deb" "$scratch/tree"; done
# A merged /usr: what the packages still have beside it belongs inside.
for folder in lib bin sbin; do
  if [ -d "$scratch/tree/$folder" ]; then cp -a "$scratch/tree/$folder" "$scratch/tree/usr/" && rm -r "${scratch:?}/tree/$folder"; fi
done
chmod 755 "$scratch/tree"
mkdir -p "$(dirname "$target")"
mv -T "$scratch/tree" "$target" || [ -e "$target/usr/lib/systemd/systemd" ]
