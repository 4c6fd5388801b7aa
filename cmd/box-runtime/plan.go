package main

import (
	"context"
	"os"

	"box/pkg/runtime"
)

func planCommand(*globals) *command {
	return &command{
		usage: "[BUNDLE]", about: "print each step that create would take, and why", min: 0, max: 1,
		run: func(_ context.Context, args []string) error {
			bundle := "."
			if len(args) == 1 {
				bundle = args[0]
			}
			plan, err := runtime.Plan(bundle)
			if err != nil {
				return err
			}
			return plan.Print(os.Stdout)
		},
	}
}
