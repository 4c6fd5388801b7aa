package launch

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/sys"
)

// relayHelper marks the process that relays, in which no signal must be tested
// twice: its handlers stay.
const relayHelper = "BOX_TEST_RELAY_HELPER"

// TestRelayHelper is that process. It relays to a child that dies of what it gets.
func TestRelayHelper(t *testing.T) {
	if os.Getenv(relayHelper) == "" {
		t.Skip("runs as part of TestRelay")
	}
	cat := exec.Command("cat")
	cat.Dir = t.TempDir() // where a core would go
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() // cat lives until then
	if err := startMasked(cat, unix.SIG_UNBLOCK); err != nil {
		t.Fatal(err)
	}
	pidfd, err := sys.PidfdOpen(cat.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := Relay(pidfd); err != nil {
		t.Fatal(err)
	}
	if Relay(pidfd) == nil {
		t.Error("two relays at once")
	}
	fmt.Println("ready:", fault() != nil)
	err = cat.Wait()
	StopRelay()
	fmt.Println(strings.TrimSuffix(err.Error(), " (core dumped)"))
	if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil { // swallowed
		t.Fatal(err)
	}
}

// fault proves that the Go runtime still gets the faults that are its own.
func fault() (caught any) {
	defer func() { caught = recover() }()
	var p *int
	return *p
}

func TestRelay(t *testing.T) {
	for _, sig := range []unix.Signal{
		unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGQUIT, unix.SIGABRT,
		unix.SIGSEGV, unix.SIGPROF, 34, 39, 64,
	} {
		t.Run(fmt.Sprint(int(sig)), func(t *testing.T) {
			t.Parallel()
			// A shell that starts tests in the background has them ignore SIGINT, and
			// so would the child that is to die of it. Of 32 and 33, which are the C
			// library's own, env cannot say that.
			helper := exec.Command("env", "--default-signal", os.Args[0], "-test.run=^TestRelayHelper$")
			helper.Env = append(os.Environ(), relayHelper+"=1")
			helper.Stderr = os.Stderr
			out, err := helper.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := startMasked(helper, unix.SIG_BLOCK); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			expectLine(t, lines, "ready: true")
			if err := helper.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			expectLine(t, lines, "signal: "+sig.String())
			for lines.Scan() { //nolint:revive // to the end
			}
			if err := helper.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoldHelper holds signals, those whose numbers are in the variable among them, and
// relays only then.
func TestHoldHelper(t *testing.T) {
	numbers, ok := os.LookupEnv(relayHelper)
	if !ok {
		t.Skip("runs as part of TestHold")
	}
	if err := Hold(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	bufio.NewScanner(os.Stdin).Scan() // until they were sent
	for word := range strings.FieldsSeq(numbers) {
		sig, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for atomic.LoadUint32(&came[sig]) == 0 { // some other thread may be about to take it
			runtime.Gosched()
		}
	}
	ended := exec.Command("true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := sys.PidfdOpen(ended.Process.Pid)
	if err := errors.Join(err, ended.Wait()); err != nil {
		t.Fatal(err)
	}
	fmt.Println(Relay(pidfd))
	StopRelay()
}

// Held signals are swallowed, and those that ask for an end are told to who relays. What
// was ignored from the beginning stays so.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		name, option string
		signals      []unix.Signal
		held         string // by number
		want         string
	}{
		{"none", "--default-signal", nil, "", "<nil>"},
		{"harmless", "--default-signal", []unix.Signal{unix.SIGUSR1, unix.SIGALRM, unix.SIGQUIT}, "10 14 3", "<nil>"},
		{"ending", "--default-signal", []unix.Signal{unix.SIGUSR1, unix.SIGTERM}, "10 15", "interrupted by SIGTERM"},
		{"ignored", "--ignore-signal=HUP,INT", []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGUSR1}, "10", "<nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			helper := exec.Command("env", c.option, os.Args[0], "-test.run=^TestHoldHelper$")
			helper.Env = append(os.Environ(), relayHelper+"="+c.held)
			helper.Stderr = os.Stderr
			out, err := helper.StdoutPipe()
			in, err2 := helper.StdinPipe()
			if err := errors.Join(err, err2, helper.Start()); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			expectLine(t, lines, "ready")
			for _, sig := range c.signals {
				if err := helper.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			in.Close()
			expectLine(t, lines, c.want)
			for lines.Scan() { //nolint:revive // to the end
			}
			if err := helper.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// startMasked starts a command that is born with SIGUSR1 blocked, or not blocked: it
// must be relayed in both cases.
func startMasked(cmd *exec.Cmd, how int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set, old := unix.Sigset_t{}, unix.Sigset_t{}
	set.Val[0] = 1 << (unix.SIGUSR1 - 1)
	if err := unix.PthreadSigmask(how, &set, &old); err != nil {
		return err
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	return cmd.Start()
}

func expectLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Errorf("got %q, want %q (%v)", lines.Text(), want, lines.Err())
	}
}
