package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"box/pkg/image/store"
	"box/pkg/network"
	"box/pkg/ocirt"
	"box/pkg/overlay"
	"box/pkg/record"
)

// Where box keeps things unless told otherwise.
const (
	DefaultRoot    = "/var/lib/box"
	DefaultRunRoot = "/run/box"
)

// MonitorName is the monitor's program.
const MonitorName = "box-monitor"

// Config says where an engine's things are. Zero fields mean the defaults.
type Config struct {
	Root    string // data root
	RunRoot string // run root, on a file system that a reboot empties
	Runtime string // name or path of the OCI runtime; see ocirt.Find
	Monitor string // name or path of the monitor program
	// Images is the image store at Root. It is needed by Create alone, and
	// opened there if nil.
	Images *store.Store
	// SweepOthers clears up behind those who work in the run root beside the
	// engine, the steps of builds. It is called when one of them was killed.
	SweepOthers func(context.Context) error
}

// Engine gives access to the containers of one data root. It is safe for use
// by several goroutines.
type Engine struct {
	config  Config
	records *record.Store

	// What most commands do not need is opened at first use: starting up is a
	// good part of what a short command costs.
	images   func() (*store.Store, error)
	overlays func() (*overlay.Store, error)
	networks func() (*network.Manager, error)
}

// Open makes the directories if needed and looks at nothing else.
func Open(c Config) (*Engine, error) {
	if c.Root == "" {
		c.Root = DefaultRoot
	}
	if c.RunRoot == "" {
		c.RunRoot = DefaultRunRoot
	}
	// config.json and the monitor need paths that do not depend on where they
	// are looked at from.
	for _, p := range []*string{&c.Root, &c.RunRoot} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, fmt.Errorf("open engine: %w", err)
		}
		*p = abs
	}
	records, err := record.OpenStore(c.Root, c.RunRoot)
	if err != nil {
		return nil, err
	}
	e := &Engine{config: c, records: records}
	e.images = sync.OnceValues(e.openImages)
	e.overlays = sync.OnceValues(func() (*overlay.Store, error) {
		return overlay.Open(filepath.Join(c.Root, "snapshots"))
	})
	e.networks = sync.OnceValues(func() (*network.Manager, error) { return network.Open(c.Root, c.RunRoot) })
	return e, nil
}

func (e *Engine) openImages() (*store.Store, error) {
	if e.config.Images != nil {
		return e.config.Images, nil
	}
	return store.Open(e.config.Root)
}

// Records gives access to the records, for callers that only look.
func (e *Engine) Records() *record.Store { return e.records }

// runtime is the runtime for new containers.
func (e *Engine) runtime() (ocirt.Runtime, error) {
	path, err := ocirt.Find(e.config.Runtime)
	if err != nil {
		return ocirt.Runtime{}, err
	}
	return ocirt.Runtime{Path: path, Root: e.runtimeRoot()}, nil
}

// runtimeRoot keeps box's containers apart from those of other users of the
// same runtime program.
func (e *Engine) runtimeRoot() string { return filepath.Join(e.config.RunRoot, "runtime") }

// runtimeOf is the runtime that made the container.
func runtimeOf(r *record.Record) ocirt.Runtime {
	return ocirt.Runtime{Path: r.Runtime.Path, Root: r.Runtime.Root}
}
