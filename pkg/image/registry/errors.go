package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"

	"box/internal/errdefs"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// explain turns what went wrong on the way to a registry into a class, one
// sentence, and the way out.
func explain(e endpoint, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || classified(err) {
		return err
	}
	var status *transport.Error
	if errors.As(err, &status) {
		return explainStatus(e, status)
	}
	if text := err.Error(); strings.Contains(text, "server gave HTTP response to HTTPS client") {
		err := errdefs.New(errdefs.ErrUnavailable, "registry %s: it speaks plain http", e.host)
		return errdefs.WithHint(err, "set insecure = true for %s in registries.toml", e.host)
	}
	if isCertificate(err) {
		err := errdefs.New(errdefs.ErrUnavailable, "registry %s: %w", e.host, innermost(err))
		return errdefs.WithHint(err, "put its certificate authority into /etc/docker/certs.d/%s/ca.crt, or set insecure = true for it in registries.toml", e.host)
	}
	return errdefs.New(errdefs.ErrUnavailable, "registry %s: %w", e.host, innermost(err))
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
		said = status.Errors[0].Message
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

// loginName is what "box login" is given for a host; nothing for Docker Hub.
func loginName(host string) string {
	if host == "index.docker.io" {
		return ""
	}
	return host
}

// isCertificate reports whether the other side could not be trusted.
func isCertificate(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &verify)
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
