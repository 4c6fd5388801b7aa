package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long an answer may take, and how long the console must be silent to count
// as having answered. An emulated machine on a busy host is slow to speak.
const (
	patience = 30 * time.Second
	silence  = 2 * time.Second
)

// interrogate asks a machine whose time is over what it is at, and returns the
// answers as a text for an error: where its processors stand, and what the kernel
// says of the running, the blocked and all other tasks
// (Documentation/admin-guide/sysrq.rst). A kernel that does not listen to its
// console gets an NMI, which makes it panic with a trace. A command that is a Go
// program writes its goroutines to its standard error.
func (m *machine) interrogate() string {
	_ = m.monitor.SetDeadline(time.Now().Add(4 * patience))
	report := "\nthe host's threads:\n" + m.threads()
	q, err := newControl(m.monitor)
	if err != nil {
		return report + fmt.Sprintf("ask QEMU: %v", err) + m.lastWords()
	}
	report += "the processors:\n" + registers(q.ask("info registers -a"))
	if !m.sysrq(q) {
		report += "the kernel does not listen to its console\n"
		mark := m.console.size()
		_, _ = q.call("inject-nmi", nil)
		m.console.settle(mark, patience, silence)
	}
	m.quit()
	return report + "the console:\n" + condense(m.console.since(0)) + m.noise.since(0)
}

// sysrq asks the kernel by its console, and tells whether it answers.
func (m *machine) sysrq(q *control) bool {
	for _, key := range "9lwt" { // everything to the console; processors, blocked tasks, all tasks
		mark := m.console.size()
		if q.press(m.serial, key) != nil || !m.console.settle(mark, patience/2, silence) {
			return false
		}
	}
	return true
}

// quit asks the command for its goroutines and passes on what it says.
func (m *machine) quit() {
	if m.port.SetDeadline(time.Now().Add(patience)) == nil && NewFrameWriter(m.port).Write(Quit, nil) == nil {
		_, _ = m.listen()
	}
}

// threads says for each thread of QEMU and of the server of files its state, the
// processor time that it has used (in ticks, see proc_pid_stat(5)) and where it waits.
func (m *machine) threads() string {
	var b strings.Builder
	for _, pid := range []int{m.machine.Process.Pid, m.server.Process.Pid} {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, file := range files {
			stat, _ := os.ReadFile(file)
			wchan, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "wchan"))
			b.WriteString(thread(string(stat), string(wchan)))
		}
	}
	return b.String()
}

// thread is the line for one thread, of its stat and wchan.
func thread(stat, wchan string) string {
	name := stat[:strings.LastIndex(stat, ")")+1] // which may hold anything
	fields := strings.Fields(stat[len(name):])
	if len(fields) < 13 {
		return ""
	}
	return fmt.Sprintf("%s %s user %s system %s %s\n", name, fields[0], fields[11], fields[12], wchan)
}

// registers reduces QEMU's "info registers -a" to where each processor is and
// whether it is halted.
func registers(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "CPU#"):
			b.WriteString(line)
		case strings.HasPrefix(line, "RIP="):
			b.WriteString(" " + line + "\n")
		}
	}
	return b.String()
}

// condense makes the console's answers readable: a line per task with the functions
// that it is in, innermost first; no sleeping threads of the kernel; no registers.
func condense(text string) string {
	var b strings.Builder
	inTask, drop := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(untimed(line))
		switch {
		case strings.HasPrefix(line, "sysrq:"):
			inTask, drop = false, false
			b.WriteString("\n" + line)
		case strings.HasPrefix(line, "Sched Debug Version"):
			drop = true
		case strings.HasPrefix(line, "task:"):
			fields := strings.Fields(line)
			inTask, drop = true, isIdleThread(fields)
			if !drop {
				b.WriteString("\n" + strings.Join(fields, " "))
			}
		case drop || isNoise(line):
		case inTask:
			function, _, _ := strings.Cut(line, "+0x")
			b.WriteString(" < " + function)
		default:
			b.WriteString("\n" + line)
		}
	}
	return strings.TrimSpace(b.String()) + "\n"
}

// isIdleThread tells whether a task of the kernel's (a child of kthreadd) sleeps.
func isIdleThread(fields []string) bool {
	var kernel, sleeps bool
	for _, f := range fields {
		kernel = kernel || f == "ppid:2" || f == "pid:2"
		sleeps = sleeps || f == "state:S" || f == "state:I"
	}
	return kernel && sleeps
}

// untimed is a line of the console without its time.
func untimed(line string) string {
	if rest, found := strings.CutPrefix(line, "["); found {
		if _, after, found := strings.Cut(rest, "] "); found {
			return after
		}
	}
	return line
}

// isNoise tells what says nothing in a trace: frames that the kernel is not sure of,
// marks, the contents of registers.
func isNoise(line string) bool {
	for _, prefix := range []string{"? ", "<", "Call Trace:", "Code:", "RSP:", "RAX:", "RDX:", "RBP:", "R10:", "R13:", "FS:", "CS:", "CR2:", "RIP: 0033"} {
		if strings.HasPrefix(line, prefix) && line != "<IRQ>" && line != "<NMI>" {
			return true
		}
	}
	return line == ""
}
