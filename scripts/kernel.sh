#!/bin/sh
# Fetches and unpacks Debian's cloud kernel for the test VM, and prints the
# directory: boot/vmlinuz and lib/modules/VERSION below it. Nothing is installed.
#
#   scripts/kernel.sh [PACKAGE.deb]
#
# Without an argument the package that linux-image-cloud-amd64 depends on comes
# from the host's own Debian mirror. The result is kept in
# ${XDG_CACHE_HOME:-~/.cache}/box-test; remove it there to get a newer kernel.
set -eu

deb=${1:-}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/box-test
out=$cache/kernel

# fetch DIR: the package file, into DIR.
fetch() {
	package=$(apt-cache depends --important linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
	if [ -z "$package" ]; then
		apt-get update -qq
		package=$(apt-cache depends --important linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
	fi
	[ -n "$package" ] || { echo "kernel.sh: linux-image-cloud-amd64: not in the package sources" >&2; exit 1; }
	cd "$1"
	# The list may be older than the mirror, which keeps the newest only.
	if ! apt-get download -qq "$package" 2>/dev/null; then
		apt-get update -qq
		apt-get download -qq "$package"
	fi
}

mkdir -p "$cache"
# One maker at a time; whoever waited finds the kernel there.
exec 9>"$cache/kernel.lock"
flock 9
if [ ! -e "$out/boot/vmlinuz" ]; then
	echo "fetching the kernel of the test VM ..." >&2
	work=$(mktemp -d "$cache/tmp.XXXXXX")
	trap 'rm -rf "$work"' EXIT INT TERM
	if [ -z "$deb" ]; then
		(fetch "$work")
		deb=$(find "$work" -maxdepth 1 -name '*.deb')
	fi
	dpkg-deb -x "$deb" "$work/kernel"
	rm -rf "$work/kernel/usr" "$work/kernel"/boot/System.map-* "$work/kernel"/boot/config-*
	mv "$work/kernel"/boot/vmlinuz-* "$work/kernel/boot/vmlinuz"
	version=$(ls "$work/kernel/lib/modules")
	/sbin/depmod -b "$work/kernel" "$version"
	chmod 0755 "$work/kernel"
	rm -rf "$out"
	mv "$work/kernel" "$out"
fi
echo "$out"
