// Package seccomp compiles the seccomp section of config.json into the classic
// BPF program that the kernel runs before every system call.
//
// It does not load the program (a step of the launch plan does) and holds no
// profile (package spec/gen has the default one). It needs neither libseccomp
// nor cgo; where the OCI specification leaves a question open, the answer is
// libseccomp's or runc's, because profiles are written against them:
//
//   - A name that no known architecture has is skipped.
//   - A rule without arguments beats the rules with arguments for the same call,
//     wherever it stands; of two without arguments the first counts. Among rules
//     with arguments the first that matches counts.
//   - Arguments of one rule must all match, unless two look at the same argument:
//     then each is a rule of its own.
//   - A rule that says what the default says is dropped.
//   - 32-bit architectures compare the lower half of an argument only.
//   - The architecture of the program itself is always filtered. A call through
//     any other that is not listed kills the thread.
//   - A call that is newer than all that the profile mentions returns ENOSYS,
//     unless the default allows: the C library then falls back to an older
//     call, where EPERM would be final.
//   - A rule for a call that 32-bit x86 can also reach through socketcall(2) or
//     ipc(2) covers that way, too.
//
// The program is a binary search over ranges of numbers with the same answer,
// about nine comparisons for any call. Paths that end without looking at
// arguments use only instructions that the kernel can evaluate ahead of time
// (seccomp_is_const_allow, Linux 5.11): calls that are always allowed then cost
// nothing at all.
//
// The flow: newPolicy resolves names to numbers and checks every value, Compile
// turns the policy into instructions. Both are pure. Invariants: what Compile
// accepts, the kernel accepts (no backward jumps, at most 4096 instructions), and
// an action or operator it does not know is an error.
package seccomp

//go:generate go run mktables.go
