package launch

// Call is a system call, or a pseudo-call that the interpreter carries out itself.
// Plans name calls instead of numbering them, so that a plan is the same on every
// architecture.
type Call uint8

// The pseudo-calls. A result between -4095 and -1 counts as failure with that errno,
// as with system calls.
const (
	// Set gives its first argument as result: a jump (with Step.Then), a copy of a
	// slot (with Step.Into), or, if negative, a failure.
	Set Call = iota
	// Load gives the 32-bit word at the address.
	Load
	// Store writes the low 32 bits of its second argument to the address.
	Store
	// Store64 writes all 64 bits.
	Store64
	// Expect succeeds if (argument 1 & argument 2) == argument 3, and fails with the
	// errno in argument 4 if not.
	Expect

	firstSyscall // what follows are system calls
)

// The system calls that steps use. All take directory descriptors where there is a
// choice: arm64 has no others.
const (
	Read Call = firstSyscall + iota
	Write
	Close
	Lseek
	Ioctl
	Fcntl
	Dup3
	Pipe2
	Openat
	Openat2
	Mkdirat
	Mknodat
	Symlinkat
	Linkat
	Unlinkat
	Renameat2
	Readlinkat
	Fchmod
	Fchmodat
	Fchown
	Fchownat
	Faccessat2
	Statx
	Fstatfs
	Fchdir
	Chdir
	Chroot
	Getcwd
	Umask
	Mount
	Umount2
	PivotRoot
	OpenTree
	MoveMount
	Fsopen
	Fsconfig
	Fsmount
	Fspick
	MountSetattr
	Setns
	Unshare
	Clone
	Clone3
	Wait4
	Waitid
	ExitGroup
	Execve
	Execveat
	Prctl
	Capset
	Setresuid
	Setresgid
	Setgroups
	Setsid
	Setpgid
	Sethostname
	Setdomainname
	Socket
	Connect
	Sendmsg
	Recvmsg
	Keyctl
	Prlimit64
	Seccomp
	CloseRange
	Personality
	SetMempolicy
	SchedSetattr
	SchedSetaffinity
	Setpriority
	IoprioSet
	PidfdOpen
	PidfdGetfd
	Kill
	Getpid
	Getppid
	RtSigprocmask
	RtSigaction
	Ppoll
	Setxattr
	Fsetxattr
)

// callInfo is what compiling and printing need to know of a call.
type callInfo struct {
	name         string
	amd64, arm64 uint32
	args         []argKind
}

// pseudo is the bit that tells the interpreter a pseudo-call from a system call.
const pseudo = 1 << 31

// calls is indexed by Call.
var calls = [...]callInfo{
	Set:     {"set", pseudo, pseudo, []argKind{argInt}},
	Load:    {"load", pseudo | 1, pseudo | 1, []argKind{argPtr}},
	Store:   {"store", pseudo | 2, pseudo | 2, []argKind{argPtr, argInt}},
	Store64: {"store64", pseudo | 3, pseudo | 3, []argKind{argPtr, argInt}},
	Expect:  {"expect", pseudo | 4, pseudo | 4, []argKind{argInt, argHex, argHex, argErrno}},

	Read:             {"read", 0, 63, []argKind{argFd, argPtr, argInt}},
	Write:            {"write", 1, 64, []argKind{argFd, argPtr, argInt}},
	Close:            {"close", 3, 57, []argKind{argFd}},
	Lseek:            {"lseek", 8, 62, []argKind{argFd, argInt, argInt}},
	Ioctl:            {"ioctl", 16, 29, []argKind{argFd, argIoctl, argPtr}},
	Fcntl:            {"fcntl", 72, 25, []argKind{argFd, argFcntl, argHex}},
	Dup3:             {"dup3", 292, 24, []argKind{argFd, argFd, argOpen}},
	Pipe2:            {"pipe2", 293, 59, []argKind{argPtr, argOpen}},
	Openat:           {"openat", 257, 56, []argKind{argFd, argPtr, argOpen, argMode}},
	Openat2:          {"openat2", 437, 437, []argKind{argFd, argPtr, argPtr, argInt}},
	Mkdirat:          {"mkdirat", 258, 34, []argKind{argFd, argPtr, argMode}},
	Mknodat:          {"mknodat", 259, 33, []argKind{argFd, argPtr, argMode, argDev}},
	Symlinkat:        {"symlinkat", 266, 36, []argKind{argPtr, argFd, argPtr}},
	Linkat:           {"linkat", 265, 37, []argKind{argFd, argPtr, argFd, argPtr, argAt}},
	Unlinkat:         {"unlinkat", 263, 35, []argKind{argFd, argPtr, argAt}},
	Renameat2:        {"renameat2", 316, 276, []argKind{argFd, argPtr, argFd, argPtr, argHex}},
	Readlinkat:       {"readlinkat", 267, 78, []argKind{argFd, argPtr, argPtr, argInt}},
	Fchmod:           {"fchmod", 91, 52, []argKind{argFd, argMode}},
	Fchmodat:         {"fchmodat", 268, 53, []argKind{argFd, argPtr, argMode}},
	Fchown:           {"fchown", 93, 55, []argKind{argFd, argInt, argInt}},
	Fchownat:         {"fchownat", 260, 54, []argKind{argFd, argPtr, argInt, argInt, argAt}},
	Faccessat2:       {"faccessat2", 439, 439, []argKind{argFd, argPtr, argInt, argAt}},
	Statx:            {"statx", 332, 291, []argKind{argFd, argPtr, argAt, argHex, argPtr}},
	Fstatfs:          {"fstatfs", 138, 44, []argKind{argFd, argPtr}},
	Fchdir:           {"fchdir", 81, 50, []argKind{argFd}},
	Chdir:            {"chdir", 80, 49, []argKind{argPtr}},
	Chroot:           {"chroot", 161, 51, []argKind{argPtr}},
	Getcwd:           {"getcwd", 79, 17, []argKind{argPtr, argInt}},
	Umask:            {"umask", 95, 166, []argKind{argMode}},
	Mount:            {"mount", 165, 40, []argKind{argPtr, argPtr, argPtr, argMount, argPtr}},
	Umount2:          {"umount2", 166, 39, []argKind{argPtr, argUmount}},
	PivotRoot:        {"pivot_root", 155, 41, []argKind{argPtr, argPtr}},
	OpenTree:         {"open_tree", 428, 428, []argKind{argFd, argPtr, argOpenTree}},
	MoveMount:        {"move_mount", 429, 429, []argKind{argFd, argPtr, argFd, argPtr, argMoveMount}},
	Fsopen:           {"fsopen", 430, 430, []argKind{argPtr, argFsopen}},
	Fsconfig:         {"fsconfig", 431, 431, []argKind{argFd, argFsconfig, argPtr, argPtr, argInt}},
	Fsmount:          {"fsmount", 432, 432, []argKind{argFd, argFsmount, argAttr}},
	Fspick:           {"fspick", 433, 433, []argKind{argFd, argPtr, argHex}},
	MountSetattr:     {"mount_setattr", 442, 442, []argKind{argFd, argPtr, argAt, argPtr, argInt}},
	Setns:            {"setns", 308, 268, []argKind{argFd, argClone}},
	Unshare:          {"unshare", 272, 97, []argKind{argClone}},
	Clone:            {"clone", 56, 220, []argKind{argClone, argPtr, argPtr, argPtr, argPtr}},
	Clone3:           {"clone3", 435, 435, []argKind{argPtr, argInt}},
	Wait4:            {"wait4", 61, 260, []argKind{argInt, argPtr, argHex, argPtr}},
	Waitid:           {"waitid", 247, 95, []argKind{argInt, argInt, argPtr, argHex, argPtr}},
	ExitGroup:        {"exit_group", 231, 94, []argKind{argInt}},
	Execve:           {"execve", 59, 221, []argKind{argPtr, argPtr, argPtr}},
	Execveat:         {"execveat", 322, 281, []argKind{argFd, argPtr, argPtr, argPtr, argAt}},
	Prctl:            {"prctl", 157, 167, []argKind{argPrctl, argHex, argHex, argHex, argHex}},
	Capset:           {"capset", 126, 91, []argKind{argPtr, argPtr}},
	Setresuid:        {"setresuid", 117, 147, []argKind{argInt, argInt, argInt}},
	Setresgid:        {"setresgid", 119, 149, []argKind{argInt, argInt, argInt}},
	Setgroups:        {"setgroups", 116, 159, []argKind{argInt, argPtr}},
	Setsid:           {"setsid", 112, 157, nil},
	Setpgid:          {"setpgid", 109, 154, []argKind{argInt, argInt}},
	Sethostname:      {"sethostname", 170, 161, []argKind{argPtr, argInt}},
	Setdomainname:    {"setdomainname", 171, 162, []argKind{argPtr, argInt}},
	Socket:           {"socket", 41, 198, []argKind{argHex, argHex, argInt}},
	Connect:          {"connect", 42, 203, []argKind{argFd, argPtr, argInt}},
	Sendmsg:          {"sendmsg", 46, 211, []argKind{argFd, argPtr, argHex}},
	Recvmsg:          {"recvmsg", 47, 212, []argKind{argFd, argPtr, argHex}},
	Keyctl:           {"keyctl", 250, 219, []argKind{argInt, argPtr, argInt, argInt, argInt}},
	Prlimit64:        {"prlimit64", 302, 261, []argKind{argInt, argInt, argPtr, argPtr}},
	Seccomp:          {"seccomp", 317, 277, []argKind{argInt, argHex, argPtr}},
	CloseRange:       {"close_range", 436, 436, []argKind{argFd, argInt, argCloseRange}},
	Personality:      {"personality", 135, 92, []argKind{argHex}},
	SetMempolicy:     {"set_mempolicy", 238, 237, []argKind{argInt, argPtr, argInt}},
	SchedSetattr:     {"sched_setattr", 314, 274, []argKind{argInt, argPtr, argInt}},
	SchedSetaffinity: {"sched_setaffinity", 203, 122, []argKind{argInt, argInt, argPtr}},
	Setpriority:      {"setpriority", 141, 140, []argKind{argInt, argInt, argInt}},
	IoprioSet:        {"ioprio_set", 251, 30, []argKind{argInt, argInt, argInt}},
	PidfdOpen:        {"pidfd_open", 434, 434, []argKind{argInt, argHex}},
	PidfdGetfd:       {"pidfd_getfd", 438, 438, []argKind{argFd, argFd, argHex}},
	Kill:             {"kill", 62, 129, []argKind{argInt, argInt}},
	Getpid:           {"getpid", 39, 172, nil},
	Getppid:          {"getppid", 110, 173, nil},
	RtSigprocmask:    {"rt_sigprocmask", 14, 135, []argKind{argInt, argPtr, argPtr, argInt}},
	RtSigaction:      {"rt_sigaction", 13, 134, []argKind{argInt, argPtr, argPtr, argInt}},
	Ppoll:            {"ppoll", 271, 73, []argKind{argPtr, argInt, argPtr, argPtr, argInt}},
	Fsetxattr:        {"fsetxattr", 190, 7, []argKind{argFd, argPtr, argPtr, argInt, argInt}},
	Setxattr:         {"setxattr", 188, 5, []argKind{argPtr, argPtr, argPtr, argInt, argInt}},
}

// known says that the table has the call.
func (c Call) known() bool { return int(c) < len(calls) && calls[c].name != "" }

// String is the call's name as in its manual page.
func (c Call) String() string {
	if !c.known() {
		return "unknown call"
	}
	return calls[c].name
}
