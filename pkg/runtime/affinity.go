package runtime

import (
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/pkg/sched"
)

// initialCPUs keeps the calling thread, which is about to make the process, to the CPUs
// of execCPUAffinity.initial: what the kernel does for the newcomer disturbs no others.
// The caller's thread is locked and is not used again (onThread).
func (j *joining) initialCPUs() error {
	if len(j.affinity.Initial) == 0 {
		return nil
	}
	admit.Spread() // or who starts the process would do it, after us
	if err := sched.SetCPUs(0, j.affinity.Initial); err != nil {
		return err
	}
	// The words are those of runc's first stage, which callers look for.
	j.rt.debugf("nsexec[%d]: affinity: %v", unix.Gettid(), j.affinity.Initial)
	return nil
}

// onThread calls f, on a thread of its own if f changes the thread: it ends with f.
func (j *joining) onThread(f func() error) error {
	if len(j.affinity.Initial) == 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // and never unlocked: then the runtime ends the thread
		done <- f()
	}()
	return <-done
}
