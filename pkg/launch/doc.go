// Package launch turns a list of system calls into a program and runs it.
//
// A Plan is an ordered list of steps. Each Step has a name, the reason why it stands
// where it stands, and one system call whose arguments are constants, addresses of
// data in the program, or slots: values that earlier steps have produced. Compile
// writes the plan out as a static ELF file of a few kilobytes, made of an interpreter
// of some two hundred bytes of machine code (interp/) and the plan as its data; NewProgram
// puts that file into a memfd that nobody can change; Start runs it through the
// standard library's fork and exec, in whatever namespaces the caller asks for.
//
//	plan → Compile → ELF bytes → NewProgram → Program → Start → Process → Report …
//
// The program does exactly its steps, in order. A step fails when its system call
// returns an error that the step does not tolerate; then the program writes the
// step's number and the errno to the report descriptor and exits, and the parent's
// Process.Report returns a *StepError such as "mount proc on /proc: operation not
// permitted". Tolerated errors and success may jump, so that fallbacks need no code.
//
// What the package is not: it knows nothing of containers, namespaces or mounts, and
// looks at nothing on the host; making a plan is pure, so plans are compared in tests
// without privileges and printed for people (Plan.Print).
//
// Invariants: a program's code is never writable and its data never executable; it
// holds no memory, environment or descriptor of its parent but those handed over;
// everything a plan refers to is checked by Compile, so a compiled plan never reads
// a slot that no step writes.
package launch
