#!/bin/sh
# Prints the path of one of the programs of Kubernetes' container runtime interface,
# crictl (its command line) or critest (its conformance tests). Debian 12 has neither: they
# are built from their module, once, in the cache.
#
#   scripts/cri-tools.sh [crictl|critest]
set -eu

name=${1:-crictl}
version=v1.36.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/box-test
program=$cache/$name-$version
if [ ! -x "$program" ]; then
	GO=${GO:-$(command -v go || echo /usr/local/go/bin/go)}
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/cri-tools.XXXXXX")
	trap 'rm -rf "$work"' EXIT INT TERM
	# From the module's own directory, so that its own go.sum is what counts. The
	# directory is read-only and a build may want to write go.sum: a copy.
	source=$(cd "$work" && "$GO" mod download -json "sigs.k8s.io/cri-tools@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	cp -r "$source" "$work/source"
	chmod -R u+w "$work/source"
	case $name in
	crictl) set -- build ;;
	critest) set -- test -c ;; # its specs are a test package
	*) echo "cri-tools.sh: $name: want crictl or critest" >&2; exit 2 ;;
	esac
	(cd "$work/source" && CGO_ENABLED=0 GOFLAGS='' "$GO" "$@" -trimpath -ldflags '-s -w' -o "$work/$name" "./cmd/$name") >&2
	mv "$work/$name" "$program"
fi
echo "$program"
