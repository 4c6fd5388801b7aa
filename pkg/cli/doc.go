// Package cli is what a user of box sees: commands, flags, tables, progress,
// messages and exit codes. The flags are Docker's.
//
// It decides nothing about containers or images: a command reads its flags,
// calls one or two functions of the rooms below, and shows the result. There
// is one file per verb, which is why the package has more files than others.
//
// Invariants:
//   - results go to standard output, progress and messages to standard error,
//     so that $(box run -d …) and pipes work;
//   - an error is one line: what was done, to which thing, why it did not
//     work, and the way out where one is known;
//   - exit codes are Docker's: 125 if box itself cannot do it, 126 and 127 if
//     the command cannot be invoked or found, otherwise the container's own;
//     1 where no container is run;
//   - what Docker has and box has not is refused by name;
//   - rooms are opened when a command needs them, so that `box --version` and
//     `box help` touch no state.
//
// Commands, flags and help stand on urfave/cli. Its grammar is not Docker's, so
// the words are rewritten first (argv).
//
// The one flow: Main → the line as the library reads it (main.go, argv) → the
// library finds the command and sets its flags → its action → exit code
// (exit.go) and message (hints.go).
package cli
