//go:build amd64 || arm64

package files

// restore cannot fail: the limit is none above the hard one.
func restore()
