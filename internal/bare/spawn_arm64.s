#include "textflag.h"

// System calls and their constants (asm-generic/unistd.h, asm-generic/signal-defs.h).
#define SYS_exit            93
#define SYS_rt_sigprocmask 135
#define SYS_clone          220
#define SIG_SETMASK          2
// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | CHILD_CLEARTID (linux/sched.h)
#define THREAD        0x250f00

// Offsets in Call.
#define NUMBER  0
#define FIRST   8
#define SECOND 16
#define THIRD  24
#define RESULT 32

// func spawn(calls **Call, n int, alive *uint32) int
//
// spawn_amd64.s tells the steps in words.
TEXT ·spawn(SB), NOSPLIT, $16-32
	MOVD $-1, R9
	MOVD R9, none-8(SP)
	MOVD $SYS_rt_sigprocmask, R8
	MOVD $SIG_SETMASK, R0
	MOVD $none-8(SP), R1
	MOVD $before-16(SP), R2
	MOVD $8, R3
	SVC

	MOVD calls+0(FP), R19
	MOVD n+8(FP), R20
	MOVD $SYS_clone, R8
	MOVD $THREAD, R0
	MOVD RSP, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD alive+16(FP), R4
	SVC
	CBZ  R0, next
	MOVD R0, ret+24(FP)

	MOVD $SYS_rt_sigprocmask, R8
	MOVD $SIG_SETMASK, R0
	MOVD $before-16(SP), R1
	MOVD $0, R2
	MOVD $8, R3
	SVC
	RET

next:
	MOVD (R19), R21
	MOVD NUMBER(R21), R8
	MOVD FIRST(R21), R0
	MOVD (R0), R0
	MOVD SECOND(R21), R1
	MOVD THIRD(R21), R2
	SVC
	MOVD R0, RESULT(R21)
	CMN  $4095, R0
	BHS  end
	ADD  $8, R19
	SUBS $1, R20
	BNE  next
end:
	MOVD $SYS_exit, R8
	MOVD $0, R0
	SVC
