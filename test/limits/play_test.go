package limits

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets this program play a part inside a container: "play NAME".
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[0] == "play" {
		parts[os.Args[1]]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// parts are what it can play.
var parts = map[string]func(){
	"hugepages": touchHugePages,
	"burn":      burn,
}

// touchHugePages takes one huge page of 2 MiB after the other and says for each
// that it has it. The kernel answers a touch beyond the limit with SIGBUS.
func touchHugePages() {
	const size = 2 << 20
	for i := range 3 {
		page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB)
		if err != nil {
			fmt.Printf("page %d: %v\n", i, err)
			return
		}
		page[0] = 1
		fmt.Printf("page %d\n", i)
	}
}

// burn uses half a second of processor time.
func burn() {
	var used unix.Rusage
	for used.Utime.Nano()+used.Stime.Nano() < 500_000_000 {
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			panic(err)
		}
	}
}
