package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What a registry says is passed on as part of one line, whatever it says.
func TestRegistryHasNoLinesOfItsOwn(t *testing.T) {
	for name, said := range map[string]string{
		"lines":    "no\r\nbox pull: Digest: sha256:0\n\tdone",
		"too long": strings.Repeat("é ", 1<<19),
	} {
		for _, code := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError} {
			err := explain(endpoint{host: "r.example"}, &transport.Error{StatusCode: code, Errors: []transport.Diagnostic{{Message: said}}})
			if text := err.Error(); strings.ContainsAny(text, "\r\n\t") || len(text) > maxSaid+100 || !strings.Contains(text, "r.example") {
				t.Errorf("%s, %d: %d bytes: %.200q", name, code, len(text), text)
			}
		}
	}
}
