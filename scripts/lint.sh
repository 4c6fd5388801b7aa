#!/bin/sh
# Everything that can be found wrong without running the code. The tools come
# from the module proxy in fixed versions and are compiled once.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
GOFUMPT=mvdan.cc/gofumpt@v0.12.0
STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2

bad=0
unformatted=$("$GO" run "$GOFUMPT" -l cmd pkg internal test)
if [ -n "$unformatted" ]; then
	echo "not formatted (run: go run $GOFUMPT -w .):"
	echo "$unformatted"
	bad=1
fi
"$GO" vet ./... || bad=1
"$GO" run "$STATICCHECK" ./... || bad=1
"$GO" test -count=1 ./test/house || bad=1
if command -v shellcheck >/dev/null 2>&1; then
	shellcheck scripts/*.sh || bad=1
else
	echo "shellcheck is not installed: scripts are not checked" >&2
fi
exit $bad
