#include "textflag.h"

// System calls and their constants (asm/unistd_64.h, asm-generic/signal-defs.h).
#define SYS_rt_sigprocmask 14
#define SYS_clone          56
#define SYS_exit           60
#define SIG_SETMASK         2
// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | CHILD_CLEARTID (linux/sched.h)
#define THREAD       0x250f00

// Offsets in Call.
#define NUMBER  0
#define FIRST   8
#define SECOND 16
#define THIRD  24
#define RESULT 32

// func spawn(calls **Call, n int, alive *uint32) int
TEXT ·spawn(SB), NOSPLIT, $16-32
	// block all signals, for the thread, which inherits that: the handlers are the Go
	// runtime's and look for a thread of its own
	MOVQ $-1, none-8(SP)
	MOVL $SYS_rt_sigprocmask, AX
	MOVL $SIG_SETMASK, DI
	LEAQ none-8(SP), SI
	LEAQ before-16(SP), DX
	MOVL $8, R10
	SYSCALL

	MOVQ calls+0(FP), R12
	MOVQ n+8(FP), R13
	MOVL $SYS_clone, AX
	MOVL $THREAD, DI
	MOVQ SP, SI          // it needs none, but may not have none
	XORL DX, DX
	MOVQ alive+16(FP), R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JEQ  next
	MOVQ AX, ret+24(FP)

	MOVL $SYS_rt_sigprocmask, AX
	MOVL $SIG_SETMASK, DI
	LEAQ before-16(SP), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	RET

	// the thread: R12 = where the next call is found, R13 = how many there are
next:
	MOVQ 0(R12), BX
	MOVQ NUMBER(BX), AX
	MOVQ FIRST(BX), DI
	MOVQ 0(DI), DI
	MOVQ SECOND(BX), SI
	MOVQ THIRD(BX), DX
	XORL R10, R10
	SYSCALL
	MOVQ AX, RESULT(BX)
	CMPQ AX, $-4095
	JCC  end             // unsigned: it is an errno
	ADDQ $8, R12
	DECQ R13
	JNE  next
end:
	MOVL $SYS_exit, AX
	XORL DI, DI
	SYSCALL
