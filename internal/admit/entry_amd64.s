#include "textflag.h"

// System calls and their constants (asm/unistd_64.h, linux/sem.h).
#define SYS_semget             64
#define SYS_semop              65
#define SYS_semctl             66
#define SYS_getrlimit          97
#define SYS_geteuid           107
#define SYS_prctl             157
#define SYS_setrlimit         160
#define SYS_sched_setaffinity 203
#define SYS_sched_getaffinity 204
#define SYS_semtimedop        220
#define SYS_getcpu            309
#define EAGAIN                 11
#define RLIMIT_NOFILE           7
#define FILES                   3 // standard input, output and error output
#define PR_SET_TIMERSLACK      29
#define PR_GET_TIMERSLACK      30
#define IPC_STAT                2
#define CREATE_0600         0x380 // IPC_CREAT | 0600
#define ROUNDS                 15
#define SLACK             5000000 // nanoseconds

// The frame below the kernel's argument vector, which stays as it is.
#define FRAME  256
#define MASK   0   // 128 bytes: processors; later struct semid64_ds
#define OTIME  48  // in semid64_ds: when an operation has last succeeded, in seconds
#define OPS    128 // three struct sembuf of 6 bytes: number, operation, flags
#define LIMIT  160 // struct timespec; later struct rlimit

// Semaphore 0 counts free places. Semaphore 1 is 1 when 0 was given its first value:
// both happen in one semop(2), so that no death in between leaves a set without places.

// admit_rt0 is the program's entry point. SP has argc, argv and so on, as the Go
// runtime's expects it. System calls keep all registers but AX, CX and R11.
TEXT admit_rt0(SB), NOSPLIT|NOFRAME, $0
	MOVQ 0(SP), CX       // argc
	LEAQ 16(SP), SI      // &argv[1]
argument:
	DECQ CX
	JLE  start
	MOVQ 0(SI), AX
	ADDQ $8, SI
	MOVL 0(AX), DX       // may read past a short argument: the environment follows
	CMPL DX, $0x006e7572 // "run\0"
	JEQ  turn
	CMPL DX, $0x61657263 // "crea"
	JNE  argument
	MOVL 3(AX), DX
	CMPL DX, $0x00657461 // "ate\0"
	JNE  argument

turn:
	SUBQ $FRAME, SP

	// R8 = places: two for each processor that we may use
	MOVL $SYS_sched_getaffinity, AX
	XORL DI, DI
	MOVL $128, SI
	LEAQ MASK(SP), DX
	SYSCALL
	CMPQ AX, $0
	JLE  leave           // more processors than fit: no need for us
	XORL R8, R8
	LEAQ MASK(SP), SI
	ADDQ SI, AX          // end of the mask, whose length is a multiple of 8
words:
	MOVQ 0(SI), DX
bits:
	TESTQ DX, DX
	JEQ  counted
	LEAQ -1(DX), CX
	ANDQ CX, DX          // without its lowest bit
	ADDL $2, R8
	JMP  bits
counted:
	ADDQ $8, SI
	CMPQ SI, AX
	JLT  words

	// R9 = who we are; BX = the set of this user for this number of places
	MOVL $SYS_geteuid, AX
	SYSCALL
	MOVL AX, R9
	MOVL AX, DI
	SHLL $13, DI
	XORL R8, DI
	XORL $0x0b0c0000, DI
	MOVL $SYS_semget, AX
	MOVL $2, SI
	MOVL $CREATE_0600, DX
	SYSCALL
	TESTL AX, AX
	JLT  leave
	MOVL AX, BX

	// take a place if one is free
	MOVL $0xffff0000, OPS(SP)   // semaphore 0, -1
	MOVW $0x1800, OPS+4(SP)     // SEM_UNDO | IPC_NOWAIT
	MOVL $SYS_semop, AX
	MOVL BX, DI
	LEAQ OPS(SP), SI
	MOVL $1, DX
	SYSCALL
	TESTL AX, AX
	JEQ  taken
	CMPL AX, $-EAGAIN
	JNE  leave

	// none is free: is the set ours?
	MOVL $SYS_semctl, AX
	XORL SI, SI
	MOVL $IPC_STAT, DX
	LEAQ MASK(SP), R10
	SYSCALL
	TESTL AX, AX
	JLT  leave
	CMPL R9, MASK+4(SP)  // uid
	JNE  leave
	CMPL R9, MASK+12(SP) // cuid, the maker's
	JNE  leave

	// if it is new, give it its places
	MOVL $0x00000001, OPS(SP)    // semaphore 1, wait for 0
	MOVW $0x0800, OPS+4(SP)      // IPC_NOWAIT
	MOVL $0x00010001, OPS+6(SP)  // semaphore 1, +1
	MOVW $0, OPS+10(SP)
	MOVW $0, OPS+12(SP)          // semaphore 0, +places
	MOVW R8, OPS+14(SP)
	MOVW $0, OPS+16(SP)
	MOVL $SYS_semop, AX
	LEAQ OPS(SP), SI
	MOVL $3, DX
	SYSCALL

	// wait for a place for two seconds, and again if somebody has got one meanwhile
	MOVL $0xffff0000, OPS(SP)   // semaphore 0, -1
	MOVW $0x1000, OPS+4(SP)     // SEM_UNDO
	MOVQ $2, LIMIT(SP)
	MOVQ $0, LIMIT+8(SP)
	MOVL $ROUNDS, R12
wait:
	MOVQ MASK+OTIME(SP), R13
	MOVL $SYS_semtimedop, AX
	LEAQ OPS(SP), SI
	MOVL $1, DX
	LEAQ LIMIT(SP), R10
	SYSCALL
	TESTL AX, AX
	JEQ  taken
	CMPL AX, $-EAGAIN
	JNE  leave
	MOVL $SYS_semctl, AX
	XORL SI, SI
	MOVL $IPC_STAT, DX
	LEAQ MASK(SP), R10
	SYSCALL
	TESTL AX, AX
	JLT  leave
	CMPQ R13, MASK+OTIME(SP)
	JEQ  leave
	DECL R12
	JNE  wait
	JMP  leave

taken:
	INCL BX
	MOVL BX, ·held(SB)
leave:
	ADDQ $FRAME, SP
start:
	SUBQ $FRAME, SP

	// R9 = how late our threads may wake up; from now on they may be later
	MOVL $SYS_prctl, AX
	MOVL $PR_GET_TIMERSLACK, DI
	SYSCALL
	CMPQ AX, $0
	JLE  processors      // an error, or a real-time process, which is always in time
	CMPQ AX, $SLACK
	JGE  processors
	MOVQ AX, R9
	MOVL $SYS_prctl, AX
	MOVL $PR_SET_TIMERSLACK, DI
	MOVL $SLACK, SI
	SYSCALL
	TESTL AX, AX
	JNE  processors
	MOVQ R9, ·slack(SB)
processors:

	// R8 = length of the mask of processors that we may use
	MOVL $SYS_sched_getaffinity, AX
	XORL DI, DI
	MOVL $128, SI
	LEAQ ·allowed(SB), DX
	SYSCALL
	CMPQ AX, $0
	JLE  files           // more processors than fit: then we use what we like
	MOVQ AX, R8

	// R9 = the processor that we are on
	MOVL $SYS_getcpu, AX
	LEAQ LIMIT(SP), DI
	XORL SI, SI
	XORL DX, DX
	SYSCALL
	TESTL AX, AX
	JNE  files
	MOVL LIMIT(SP), R9

	// stay there
	LEAQ MASK(SP), DI
	XORL AX, AX
	MOVL $16, CX
	REP; STOSQ
	LEAQ MASK(SP), DX
	BTSQ R9, 0(DX)       // of all the mask, not of its first word
	MOVL $SYS_sched_setaffinity, AX
	XORL DI, DI
	MOVQ R8, SI
	SYSCALL
	TESTL AX, AX
	JNE  files
	MOVL R8, ·kept(SB)
files:

	// R8, R9 = how many files we may have open; for now it is three
	MOVL $SYS_getrlimit, AX
	MOVL $RLIMIT_NOFILE, DI
	LEAQ LIMIT(SP), SI
	SYSCALL
	TESTL AX, AX
	JNE  begin
	MOVQ LIMIT(SP), R8
	MOVQ LIMIT+8(SP), R9
	CMPQ R8, $FILES
	JLS  begin
	MOVQ $FILES, LIMIT(SP)
	MOVL $SYS_setrlimit, AX
	SYSCALL
	TESTL AX, AX
	JNE  begin
	MOVQ R8, box∕internal∕admit∕files·lowered(SB)
	MOVQ R9, box∕internal∕admit∕files·lowered+8(SB)
begin:
	ADDQ $FRAME, SP
	JMP  _rt0_amd64_linux(SB)
