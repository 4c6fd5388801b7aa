package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/spec/gen"
)

func specCommand(*globals) *command {
	bundle, rootless := ".", false
	return &command{
		about: "write a config.json to start from", max: 0,
		flags: []flag{
			text(&bundle, "DIR", "where to write it (default: the working directory)", "bundle", "b"),
			on(&rootless, "for the user who asks, without privileges", "rootless"),
		},
		run: func(context.Context, []string) error {
			return writeSpec(filepath.Join(bundle, "config.json"), example(rootless, unified()))
		},
	}
}

// example is the specification to start from. Where the controllers are those of
// cgroup v1 it goes without a cgroup namespace, as runc's does: their paths are the
// host's for everybody.
func example(rootless, unified bool) *specs.Spec {
	s := gen.Runtime()
	if !unified {
		gen.WithoutNamespace(s, specs.CgroupNamespace)
	}
	if rootless {
		gen.Rootless(s, uint32(os.Geteuid()), uint32(os.Getegid()))
	}
	return s
}

// unified reports whether the host has cgroup v2 and nothing else.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

func writeSpec(path string, s *specs.Spec) error {
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return errdefs.New(errdefs.ErrExists, "file %s exists: remove it first", path)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(append(data, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
