package main

import (
	"context"

	"box/pkg/runtime"
)

func featuresCommand(*globals) *command {
	return &command{
		about: "print what this runtime can do, as JSON", max: 0,
		run: func(context.Context, []string) error { return printJSON(runtime.Features(version), "  ") },
	}
}
