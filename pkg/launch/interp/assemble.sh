#!/bin/sh
# Assembles the interpreters in this directory into ARCH.bin, which the package embeds.
# Usage: assemble.sh [OUTPUT-DIRECTORY]. An architecture whose assembler is not
# installed is left as it is, and named.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

assemble() { # ARCH NATIVE-MACHINE TOOL-PREFIX
	prefix=$3
	[ "$(uname -m)" = "$2" ] && prefix=
	if ! command -v "${prefix}as" >/dev/null || ! command -v "${prefix}objcopy" >/dev/null; then
		echo "assemble.sh: no ${prefix}as or ${prefix}objcopy: $1 skipped" >&2
		return
	fi
	"${prefix}as" -o "$tmp/$1.o" "$here/$1.S"
	"${prefix}objcopy" -O binary -j .text "$tmp/$1.o" "$out/$1.bin"
}

assemble amd64 x86_64 x86_64-linux-gnu-
assemble arm64 aarch64 aarch64-linux-gnu-
