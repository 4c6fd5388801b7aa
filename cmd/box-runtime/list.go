package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"box/internal/errdefs"
	"box/pkg/runtime"
)

func listCommand(g *globals) *command {
	var quiet bool
	format := "table"
	return &command{
		about: "list the containers under the root", max: 0,
		flags: []flag{
			on(&quiet, "print ids only", "quiet", "q"),
			text(&format, "FORMAT", `"table" (default) or "json"`, "format", "f"),
		},
		run: func(context.Context, []string) error {
			if _, err := os.Stat(g.root); g.ownRoot && err != nil {
				return err // a typing error; the default root is made by the first create
			}
			all, err := g.runtime().List()
			if err != nil {
				return err
			}
			return printList(all, quiet, format)
		},
	}
}

func printList(all []runtime.State, quiet bool, format string) error {
	switch {
	case quiet:
		for _, st := range all {
			fmt.Println(st.ID)
		}
		return nil
	case format == "json" && all == nil:
		fmt.Println("null") // runc's answer for an empty root
		return nil
	case format == "json":
		return printJSON(all, "")
	case format != "table":
		return errdefs.New(errdefs.ErrInvalid, "invalid format option %q: table or json", format)
	}
	w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
	fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, st := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", st.ID, st.Pid, st.Status, st.Bundle, st.Created.Format(time.RFC3339Nano), st.Owner)
	}
	return w.Flush()
}
