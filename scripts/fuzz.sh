#!/bin/sh
# Runs every fuzz target for a while, one after another, on one processor:
#   scripts/fuzz.sh [TIME [PATTERN]]     TIME as Go writes it, 1m; PATTERN on names
# What is found lies in the package's testdata/fuzz, and fails `go test` from then
# on: that is how a finding is kept until it is repaired.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
time=${1:-1m}
pattern=${2:-.}

targets() {
	grep -rE --include='*_test.go' '^func Fuzz[A-Za-z0-9]*\(' pkg cmd internal |
		sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9]*).*|./\1 \2|' | grep -E "$pattern" | sort
}

bad=0
list=$(targets)
[ -n "$list" ] || { echo "fuzz.sh: no target matches $pattern" >&2; exit 2; }
while read -r package name; do
	echo "== $package $name"
	"$GO" test "$package" -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 5s -parallel 1 || bad=1
done <<END
$list
END
exit $bad
