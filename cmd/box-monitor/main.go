// Command box-monitor supervises one container. It is started by box and is of
// no use by hand; see package monitor.
package main

import (
	"os"

	"box/pkg/monitor"
)

func main() { os.Exit(monitor.Main(os.Args[1:])) }
