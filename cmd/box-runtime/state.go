package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"

	"box/pkg/runtime"
)

func stateCommand(g *globals) *command {
	return &command{
		usage: "ID", about: "print a container's state as JSON", min: 1, max: 1,
		run: func(_ context.Context, args []string) error {
			st, err := g.runtime().State(args[0])
			if err != nil {
				return err
			}
			return printState(st)
		},
	}
}

// printState indents what State.JSON writes without reflection: engines ask for states
// often, and for nothing else.
func printState(st *runtime.State) error {
	line, err := st.JSON()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, append(line, '\n'), "", "  "); err != nil {
		return err
	}
	_, err = os.Stdout.Write(b.Bytes())
	return err
}

func printJSON(v any, indent string) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}
