package launch_test

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// A program that looks for a command in two places and tells its parent when neither
// has it.
func Example() {
	plan := &launch.Plan{ReportFD: 3}
	argv, env := launch.Strings([]string{"demo"}), launch.Strings(nil)
	plan.Add(
		launch.Step{
			Name: "execute /nonexistent/demo", Why: "the first place", Call: launch.Execve,
			Args:  launch.Args{launch.Text("/nonexistent/demo"), argv, env},
			Allow: []launch.Allow{{Errno: unix.ENOENT}},
		},
		launch.Step{
			Name: "execute /nowhere/demo", Why: "the last place: here a missing file is an error", Call: launch.Execve,
			Args: launch.Args{launch.Text("/nowhere/demo"), argv, env},
		},
	)
	program, err := launch.NewProgram(plan)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer program.Close()
	process, err := program.Start(launch.Attr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer process.Close()
	_, err = process.Report()
	fmt.Println(err)
	status, _ := process.Wait()
	fmt.Println("status", status.ExitStatus())
	// Output:
	// execute /nowhere/demo: no such file or directory
	// status 1
}
