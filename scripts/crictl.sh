#!/bin/sh
# Prints the path of crictl, the command line of Kubernetes' container runtime
# interface. Debian 12 has none: it is built from its module, once, in the cache.
set -eu

version=v1.36.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/box-test
program=$cache/crictl-$version
if [ ! -x "$program" ]; then
	GO=${GO:-$(command -v go || echo /usr/local/go/bin/go)}
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/crictl.XXXXXX")
	trap 'rm -rf "$work"' EXIT INT TERM
	# From the module's own directory, so that its own go.sum is what counts. The
	# directory is read-only and a build may want to write go.sum: a copy.
	source=$(cd "$work" && "$GO" mod download -json "sigs.k8s.io/cri-tools@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	cp -r "$source" "$work/source"
	chmod -R u+w "$work/source"
	(cd "$work/source" && CGO_ENABLED=0 GOFLAGS='' "$GO" build -trimpath -ldflags '-s -w' -o "$work/crictl" ./cmd/crictl) >&2
	mv "$work/crictl" "$program"
fi
echo "$program"
