package launch

import "golang.org/x/sys/unix"

// quitSize is how long the interpreter's signal handler is, its last instructions: 8
// bytes on both architectures.
const quitSize = 8

// quitter is the address of that handler.
type quitter struct{}

func (quitter) isArg() {}

// saRestorer says that a sigaction names the code to return through; x86 refuses to
// call a handler without it (arch/x86/kernel/signal_64.c).
const saRestorer = 0x04000000

// QuitOn adds the steps by which the signals, until an execve, end the program with
// status 128 and the signal's number. It is for a program that is the first process of
// a pid namespace, which signals with their default action do not reach
// (pid_namespaces(7)).
func (p *Plan) QuitOn(why string, signals ...unix.Signal) {
	action := Bytes(make([]byte, 32), func() string { return "{quit}" }) // struct sigaction: handler, flags, restorer, mask
	putWords(action.bytes[8:], saRestorer)
	action.Point(0, quitter{})
	action.Point(16, quitter{}) // never returned through
	for _, sig := range signals {
		p.Add(Step{
			Name: "quit on " + unix.SignalName(sig), Why: why, Call: RtSigaction,
			Args: Args{Int(sig), action, Nil, Int(8)},
		})
	}
}
