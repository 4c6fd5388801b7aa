// Package sched turns what a configuration says about how the kernel schedules a
// process into system calls: the CPU scheduler, the priority of its input and output,
// the CPUs it may run on, the NUMA nodes its memory comes from, and the execution
// domain it sees.
//
// What one process can set on another is a function with a pid (Scheduler, IOPriority,
// SetCPUs, ResetCPUs), for the parent, which may hold privileges that the container does
// not have. What a process can only set on itself, or has to have before its parent could
// set it, is a step of its launch program (AddMemoryPolicy, AddPersonality, AddCPUReset).
//
// It knows no container and no control group, and reads nothing of the host: values that
// this machine does not have (a CPU, a node) are refused by the kernel. What is wrong
// with a value by itself is found by the Check functions, which are pure; errors begin
// with the field's path, and have runc's words where callers look for them.
package sched
