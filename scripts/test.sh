#!/bin/sh
# Runs `go test` over the given packages and prints the result lines, what was
# skipped and why, and one line of totals.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}

# Where the end-to-end tests find the programs; made by `make build`.
export BOX_BIN="${BOX_BIN:-$PWD/bin}"
# The e2e tests share the host's kernel: one package at a time keeps their
# checks for traces from seeing each other.
exec "$GO" run ./test/testsum -- "$GO" test -json -p 1 -timeout 15m "$@"
