#!/bin/sh
# Says in one line what is wrong with the Go toolchain, or nothing.
# Go 1.20 and older cannot even read go.mod's version and fail with a riddle;
# 1.21 and newer may fetch the named toolchain themselves.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
want=$(awk '$1 == "go" { print $2; exit }' go.mod)

complain() {
	echo "box needs Go $want or newer: $1. Get it from https://go.dev/dl/ and put its bin directory into PATH (or set GO=/path/to/go)." >&2
	exit 1
}

command -v "$GO" >/dev/null 2>&1 || complain "no go command found"
have=$(cd / && GOTOOLCHAIN=local "$GO" env GOVERSION 2>/dev/null | sed 's/^go//; s/ .*//')
[ -n "$have" ] || complain "'$GO' does not answer"
oldest=$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)
[ "$oldest" = "$want" ] && exit 0
# Older than wanted: fine only if this Go can fetch and run the wanted one.
"$GO" version >/dev/null 2>&1 || complain "this one is $have"
