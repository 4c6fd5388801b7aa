package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"box/internal/errdefs"
	"box/pkg/spec/gen"
)

func specCommand() *command {
	bundle, rootless := ".", false
	return &command{
		name: "spec", about: "write a config.json to start from", max: 0,
		flags: []flag{
			text(&bundle, "DIR", "where to write it (default: the working directory)", "bundle", "b"),
			on(&rootless, "for a user without root (not supported yet)", "rootless"),
		},
		run: func(context.Context, []string) error {
			if rootless {
				return errdefs.New(errdefs.ErrUnsupported, "spec --rootless: not supported yet")
			}
			return writeSpec(filepath.Join(bundle, "config.json"))
		},
	}
}

func writeSpec(path string) error {
	data, err := json.MarshalIndent(gen.Runtime(), "", "\t")
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
