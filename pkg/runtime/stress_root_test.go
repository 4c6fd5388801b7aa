package runtime

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// refusals are runc's words for what cannot be done with a container as it stands. Others
// that work on the same one may always cause them, and nothing else.
var refusals = []string{
	"container does not exist: ",
	"container with given ID already exists: ",
	"cannot start a container that has stopped: ",
	"cannot start a container in the paused state: ",
	"cannot start an already running container: ",
	"cannot exec in a paused container: ",
	"container not running: ",
	"container not running or created: ",
	"container not paused: ",
	"cannot delete container ",
	"was killed", // the program of a create that somebody has deleted
}

// hustle calls verbs at random on one container, from several processes at once and for
// some seconds. each is given the call, and whether its outcome is as it may be.
func (b *bench) hustle(limit time.Duration, each func(cmd *exec.Cmd) error) {
	calls := [][]string{
		{"create", b.id},
		{"create", b.id},
		{"run", "--detach", b.id},
		{"run", b.id},
		{"start", b.id},
		{"start", b.id},
		{"exec", b.id, "true"},
		{"exec", "--detach", b.id, "sleep", "1000"},
		{"kill", b.id, "TERM"},
		{"kill", b.id, "KILL"},
		{"kill", "--all", b.id, "KILL"},
		{"pause", b.id},
		{"resume", b.id},
		{"resume", b.id},
		{"update", "--pids-limit", "50", b.id},
		{"state", b.id},
		{"list"},
		{"ps", "-f", "json", b.id},
		{"delete", b.id},
		{"delete", "--force", b.id},
	}
	end := time.Now().Add(limit)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for time.Now().Before(end) {
				args := calls[rand.IntN(len(calls))]
				if err := each(b.command(args...)); err != nil {
					b.t.Errorf("%s: %v", strings.Join(args, " "), err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(end.Add(time.Minute)) {
		select {
		case <-done:
			return
		case <-tick.C:
			if time.Now().After(end) { // somebody may be waiting for the end of a container
				_ = b.command("delete", "--force", b.id).Run()
			}
		}
	}
	b.t.Error("a call does not end")
	<-done
}

// Scenario: several processes do what they like with one container. None crashes, each is
// told what it may be told, and a delete by force leaves nothing.
func TestManyWorkOnOneContainer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	b := newBench(t, "sleep", "1000")
	b.save()
	if err := os.Mkdir(b.root, 0o700); err != nil { // list wants one that is there
		t.Fatal(err)
	}
	b.hustle(5*time.Second, func(cmd *exec.Cmd) error {
		file, err := os.CreateTemp(b.bundle, "output") // no pipe: the container has it, too
		if err != nil {
			return err
		}
		defer file.Close()
		defer os.Remove(file.Name())
		cmd.Stdout, cmd.Stderr = file, file
		err = cmd.Run()
		out, readErr := os.ReadFile(file.Name())
		if readErr != nil {
			return readErr
		}
		if err == nil || cmd.ProcessState.ExitCode() == signalled+9 && len(out) == 0 {
			return nil
		}
		known := func(words string) bool { return strings.Contains(string(out), words) }
		if cmd.ProcessState.Exited() && slices.ContainsFunc(refusals, known) {
			return nil
		}
		return fmt.Errorf("%w: %s", err, out)
	})
	b.do("delete", "--force", b.id)
}

// Scenario: each of them is killed at some moment. What they leave can be deleted by force,
// again and again, and then nothing is left.
func TestKilledAtWorkOnOneContainer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	b := newBench(t, "sleep", "1000")
	b.save()
	for range 4 {
		b.hustle(time.Second, func(cmd *exec.Cmd) error {
			if err := cmd.Start(); err != nil {
				return err
			}
			timer := time.AfterFunc(rand.N(10*time.Millisecond), func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			_ = cmd.Wait()
			return nil
		})
		b.do("delete", "--force", b.id)
		b.nothingLeft()
	}
}
