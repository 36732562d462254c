#!/usr/bin/env bash
# Unpacks systemd 254, from Debian's backports for bookworm, into node_modules/.cache/systemd-254: nothing is installed. The tests boot it in a box, laid
# over /usr. It is the first version with Type=notify-reload that a Debian 12 can run (253 has it), $FDSTORE and FileDescriptorStorePreserve=.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=$root/node_modules/.cache/systemd-254
if [ -e "$target/usr/lib/systemd/systemd" ]; then exit 0; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{sources,lists/partial,cache/archives/partial,debs,tree/usr}
cat >"$scratch/sources/backports.sources" <<'SOURCES'
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
apt=(apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$scratch/sources" -o Dir::State::Lists="$scratch/lists"
  -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$scratch/debs" && "${apt[@]}" download systemd libsystemd-shared libsystemd0)
for deb in "$scratch"/debs/*.deb; do dpkg -x "$deb" "$scratch/tree"; done
# A merged /usr: what the packages still have beside it belongs inside.
for folder in lib bin sbin; do
  if [ -d "$scratch/tree/$folder" ]; then cp -a "$scratch/tree/$folder" "$scratch/tree/usr/" && rm -r "${scratch:?}/tree/$folder"; fi
done
chmod 755 "$scratch/tree"
mkdir -p "$(dirname "$target")"
mv -T "$scratch/tree" "$target" || [ -e "$target/usr/lib/systemd/systemd" ]
