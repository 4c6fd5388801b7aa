package main

import (
	"context"
	"encoding/json"
	"os"
)

func stateCommand(g *globals) *command {
	return &command{
		usage: "ID", about: "print a container's state as JSON", min: 1, max: 1,
		run: func(_ context.Context, args []string) error {
			st, err := g.runtime().State(args[0])
			if err != nil {
				return err
			}
			return printJSON(st, "  ")
		},
	}
}

func printJSON(v any, indent string) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}
