// Package spec loads config.json: it decodes the OCI runtime configuration,
// refuses what box-runtime does not carry out, and checks the values.
//
// It is not a second model of a container: what comes out is specs.Spec itself,
// and it is the only form in which the configuration exists. Nor does it look
// at the host, with one exception: a network namespace given by path is
// compared with the host's before sysctls are allowed in it (CVE-2022-0532).
//
// The flow: Load reads the file once; decoders.go understands exactly the
// fields of specs.Spec; docs/spec.md says of each what
// becomes of it, and fields.go lists those that are refused; Validate walks that
// list and then the value checks.
//
// Why a decoder of its own: the first encoding/json decode of specs.Spec in a
// process takes about 600 µs, nearly all of it building reflection plans for
// types, which is a tenth of a whole container start. decoders.go is generated
// from the same types and takes a tenth of that. It is also stricter
// (internal/strictjson).
//
// Invariants: no field is ignored in silence; every error names the field by
// its JSON path; a Spec that Validate accepts has no NUL byte in any string, no
// id above 2^31-1 and no path that would be resolved twice.
package spec

//go:generate go run mkdecode.go
