package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"

	"box/internal/errdefs"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// explain turns what went wrong on the way to a registry into a class, one
// sentence, and the way out. What the network and TLS say goes before what has a
// class already: both may be joined in one error.
func explain(e endpoint, err error) error {
	var status *transport.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		err := errdefs.New(errdefs.ErrUnavailable, "registry %s: it speaks plain http", e.host)
		return errdefs.WithHint(err, "set insecure = true for %s in registries.toml", e.host)
	case certificate(err) != nil:
		err := errdefs.New(errdefs.ErrUnavailable, "registry %s: %w", e.host, certificate(err))
		return errdefs.WithHint(err, "put its certificate authority into /etc/docker/certs.d/%s/ca.crt, or set insecure = true for it in registries.toml", e.host)
	case errors.As(err, &status):
		return explainStatus(e, status)
	case isNetwork(err):
		return errdefs.New(errdefs.ErrUnavailable, "registry %s: %w", e.host, innermost(err))
	case classified(err):
		return err
	}
	return errdefs.New(errdefs.ErrUnavailable, "registry %s: %w", e.host, innermost(err))
}

// isNetwork reports whether the network has failed. For a local address the
// handshake tries https and then http, which the guard refuses; then this is the
// part of the story that matters.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// classified reports whether the error has said what it has to say already.
func classified(err error) bool {
	for _, class := range []error{errdefs.ErrNotFound, errdefs.ErrExists, errdefs.ErrInvalid, errdefs.ErrUnsupported, errdefs.ErrConflict, errdefs.ErrUnavailable, errdefs.ErrUnauthorized, errdefs.ErrCorrupt} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// explainStatus explains an answer of the registry that is not a success.
func explainStatus(e endpoint, status *transport.Error) error {
	said := http.StatusText(status.StatusCode)
	if len(status.Errors) > 0 && status.Errors[0].Message != "" {
		said = oneLine(status.Errors[0].Message)
	}
	switch status.StatusCode {
	case http.StatusNotFound:
		return errdefs.New(errdefs.ErrNotFound, "not found: registry %s: %s", e.host, said)
	case http.StatusUnauthorized, http.StatusForbidden:
		err := errdefs.New(errdefs.ErrUnauthorized, "not authorized, or no such repository: registry %s: %s", e.host, said)
		return errdefs.WithHint(err, "box login %s", loginName(e.host))
	case http.StatusTooManyRequests:
		err := errdefs.New(errdefs.ErrUnavailable, "registry %s: too many requests: %s", e.host, said)
		return errdefs.WithHint(err, "wait, log in with box login %s, or set a mirror in registries.toml", loginName(e.host))
	}
	return errdefs.New(errdefs.ErrUnavailable, "registry %s: %d %s", e.host, status.StatusCode, said)
}

// maxSaid is how much of a registry's words is passed on, in bytes.
const maxSaid = 300

// oneLine makes one short line of what a registry says: with lines of its own it
// could speak in our name.
func oneLine(said string) string {
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > maxSaid {
		said = strings.ToValidUTF8(said[:maxSaid], "") + "…"
	}
	return said
}

// loginName is what "box login" is given for a host; nothing for Docker Hub.
func loginName(host string) string {
	if host == "index.docker.io" {
		return ""
	}
	return host
}

// certificate is the part of err that says why the other side cannot be trusted;
// nil if that is not the matter.
func certificate(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return unknown
	case errors.As(err, &name):
		return name
	case errors.As(err, &invalid):
		return invalid
	}
	return nil
}

// innermost strips the request that net/http puts around an error, and keeps
// what the network said, with address and port.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
