package main

import (
	"context"
	"path/filepath"
	"strings"
)

// The validation programs of the OCI's runtime-tools: one per operation or field
// of the specification, each of which prints TAP. They are older than most of
// the specification, and some are wrong about it; runc's outcome says which.
const (
	toolsVersion = "v0.9.0"
	toolPrefix   = "oci-" // what tells their names from those of bats files
)

// toolsRequire are the modules that the programs are built with. They are older
// than Go's modules: these are the newest versions that they compile with.
var toolsRequire = []string{
	"github.com/blang/semver@v3.5.1+incompatible",
	"github.com/hashicorp/go-multierror@v1.1.1",
	"github.com/mndrix/tap-go@v0.0.0-20171203230836-629fa407e90b",
	"github.com/mrunalp/fileutils@v0.5.1",
	"github.com/opencontainers/runtime-spec@v1.0.2",
	"github.com/opencontainers/selinux@v1.6.0",
	"github.com/satori/go.uuid@v1.2.0",
	"github.com/sirupsen/logrus@v1.9.4",
	"github.com/stretchr/testify@v1.11.1",
	"github.com/syndtr/gocapability@v0.0.0-20200815063812-42c35b437635",
	"github.com/urfave/cli@v1.22.17",
	"github.com/xeipuuv/gojsonschema@v1.2.0",
	"golang.org/x/sys@v0.46.0",
}

func (s suite) tools() string { return filepath.Join(s.dir, "runtime-tools-"+toolsVersion) }

func (s suite) fetchTools(ctx context.Context) error {
	return fetch(ctx, "github.com/opencontainers/runtime-tools@"+toolsVersion, s.tools())
}

// buildTools compiles the programs into bin/, and runtimetest, which they put
// into their containers, beside the archive of the containers' root file system.
func (s suite) buildTools(ctx context.Context) error {
	if err := command(ctx, s.tools(), "go", "mod", "init", "github.com/opencontainers/runtime-tools"); err != nil {
		return err
	}
	require := "-require=" + strings.Join(toolsRequire, " -require=")
	if err := command(ctx, s.tools(), "go", append([]string{"mod", "edit"}, strings.Fields(require)...)...); err != nil {
		return err
	}
	if err := command(ctx, s.tools(), "go", "mod", "tidy"); err != nil {
		return err
	}
	if err := command(ctx, s.tools(), "env", "CGO_ENABLED=0", "go", "build", "-o", "runtimetest", "./cmd/runtimetest"); err != nil {
		return err
	}
	return command(ctx, s.tools(), "sh", "-c", "mkdir bin && CGO_ENABLED=0 go build -o bin ./validation/...")
}
