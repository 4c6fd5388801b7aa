// The monitor has little to do at a time: the CPU limits of the control group
// that the user happens to be in need not be read at each start, nor watched.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command box-monitor supervises one container. It is started by box and is of
// no use by hand; see package monitor.
package main

import (
	"os"

	"box/pkg/monitor"
)

func main() { os.Exit(monitor.Main(os.Args[1:])) }
