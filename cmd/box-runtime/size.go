package main

import (
	"math"
	"strconv"
	"strings"

	"box/internal/errdefs"
)

// units are the suffixes of sizes: powers of 1024, whatever people write after them.
const units = "kmgtp"

// parseSize reads an amount of memory in bytes as runc does: "-1" for no limit, or a
// number that may have a fraction and a unit, "512m", "1.5 GiB", "64kb", "100b".
func parseSize(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToLower(s[len(digits):])
	digits = strings.TrimSuffix(digits, " ")
	scale, ok := unitScale(unit)
	n, err := strconv.ParseFloat(digits, 64)
	// The digits are checked too: ParseFloat knows hexadecimal, underscores and exponents.
	if err != nil || !ok || n < 0 || strings.Trim(digits, "0123456789.") != "" || n*scale >= math.MaxInt64 {
		return 0, errdefs.New(errdefs.ErrInvalid, "invalid size: '%s'", s)
	}
	if exact, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return exact * int64(scale), nil // no rounding, however large
	}
	return int64(n * scale), nil
}

// unitScale is what a unit multiplies by: "", "b", "k", "kb", "ki", "kib" …
func unitScale(unit string) (scale float64, ok bool) {
	if unit == "" || unit == "b" {
		return 1, true
	}
	power := strings.IndexByte(units, unit[0])
	switch unit[1:] {
	case "", "b", "i", "ib":
		return math.Pow(1024, float64(power+1)), power >= 0
	}
	return 0, false
}
