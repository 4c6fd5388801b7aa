#include "textflag.h"

// System calls and their constants (asm-generic/unistd.h, linux/sem.h).
#define SYS_sched_setaffinity 122
#define SYS_sched_getaffinity 123
#define SYS_getrlimit         163
#define SYS_setrlimit         164
#define SYS_prctl             167
#define SYS_getcpu            168
#define SYS_geteuid           175
#define SYS_semget            190
#define SYS_semctl            191
#define SYS_semtimedop        192
#define SYS_semop             193
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

// admit_rt0 is the program's entry point; entry_amd64.s tells the steps in words. RSP
// has argc, argv and so on, as the Go runtime's expects it. System calls keep all
// registers but R0.
TEXT admit_rt0(SB), NOSPLIT|NOFRAME, $0
	MOVD 0(RSP), R9        // argc
	ADD  $16, RSP, R10     // &argv[1]
argument:
	SUBS $1, R9
	BLE  start
	MOVD.P 8(R10), R11
	MOVWU 0(R11), R12      // may read past a short argument: the environment follows
	MOVD $0x006e7572, R13  // "run\0"
	CMPW R13, R12
	BEQ  turn
	MOVD $0x61657263, R13  // "crea"
	CMPW R13, R12
	BNE  argument
	MOVWU 3(R11), R12
	MOVD $0x00657461, R13  // "ate\0"
	CMPW R13, R12
	BNE  argument

turn:
	SUB  $FRAME, RSP

	// R19 = places: two for each processor that we may use
	MOVD $SYS_sched_getaffinity, R8
	MOVD $0, R0
	MOVD $128, R1
	ADD  $MASK, RSP, R2
	SVC
	CMP  $0, R0
	BLE  leave             // more processors than fit: no need for us
	MOVD $0, R19
	ADD  $MASK, RSP, R10
	ADD  R10, R0, R11      // end of the mask, whose length is a multiple of 8
words:
	MOVD.P 8(R10), R12
bits:
	CBZ  R12, counted
	SUB  $1, R12, R13
	AND  R13, R12          // without its lowest bit
	ADD  $2, R19
	B    bits
counted:
	CMP  R11, R10
	BLT  words

	// R20 = who we are; R21 = the set of this user for this number of places
	MOVD $SYS_geteuid, R8
	SVC
	MOVW R0, R20
	LSLW $13, R0, R0
	EORW R19, R0, R0
	MOVD $0x0b0c0000, R13
	EORW R13, R0, R0
	MOVD $SYS_semget, R8
	MOVD $2, R1
	MOVD $CREATE_0600, R2
	SVC
	TBNZ $31, R0, leave
	MOVW R0, R21

	// take a place if one is free
	MOVD $0xffff0000, R13  // semaphore 0, -1
	MOVW R13, OPS(RSP)
	MOVD $0x1800, R13      // SEM_UNDO | IPC_NOWAIT
	MOVH R13, (OPS+4)(RSP)
	MOVD $SYS_semop, R8
	ADD  $OPS, RSP, R1
	MOVD $1, R2
	SVC
	CBZW R0, taken
	CMNW $EAGAIN, R0
	BNE  leave

	// none is free: is the set ours?
	MOVD $SYS_semctl, R8
	MOVW R21, R0
	MOVD $0, R1
	MOVD $IPC_STAT, R2
	ADD  $MASK, RSP, R3
	SVC
	TBNZ $31, R0, leave
	MOVW (MASK+4)(RSP), R13  // uid
	CMPW R13, R20
	BNE  leave
	MOVW (MASK+12)(RSP), R13 // cuid, the maker's
	CMPW R13, R20
	BNE  leave

	// if it is new, give it its places
	MOVD $0x00000001, R13    // semaphore 1, wait for 0
	MOVW R13, OPS(RSP)
	MOVD $0x0800, R13        // IPC_NOWAIT
	MOVH R13, (OPS+4)(RSP)
	MOVD $1, R13             // semaphore 1, +1
	MOVH R13, (OPS+6)(RSP)
	MOVH R13, (OPS+8)(RSP)
	MOVH ZR, (OPS+10)(RSP)
	MOVH ZR, (OPS+12)(RSP)   // semaphore 0, +places
	MOVH R19, (OPS+14)(RSP)
	MOVH ZR, (OPS+16)(RSP)
	MOVD $SYS_semop, R8
	MOVW R21, R0
	ADD  $OPS, RSP, R1
	MOVD $3, R2
	SVC

	// wait for a place for two seconds, and again if somebody has got one meanwhile
	MOVD $0xffff0000, R13    // semaphore 0, -1
	MOVW R13, OPS(RSP)
	MOVD $0x1000, R13        // SEM_UNDO
	MOVH R13, (OPS+4)(RSP)
	MOVD $2, R13
	MOVD R13, LIMIT(RSP)
	MOVD ZR, (LIMIT+8)(RSP)
	MOVD $ROUNDS, R22
wait:
	MOVD (MASK+OTIME)(RSP), R23
	MOVD $SYS_semtimedop, R8
	MOVW R21, R0
	ADD  $OPS, RSP, R1
	MOVD $1, R2
	ADD  $LIMIT, RSP, R3
	SVC
	CBZW R0, taken
	CMNW $EAGAIN, R0
	BNE  leave
	MOVD $SYS_semctl, R8
	MOVW R21, R0
	MOVD $0, R1
	MOVD $IPC_STAT, R2
	ADD  $MASK, RSP, R3
	SVC
	TBNZ $31, R0, leave
	MOVD (MASK+OTIME)(RSP), R13
	CMP  R13, R23
	BEQ  leave
	SUBS $1, R22
	BNE  wait
	B    leave

taken:
	ADDW $1, R21
	MOVW R21, ·held(SB)
leave:
	ADD  $FRAME, RSP
start:
	SUB  $FRAME, RSP

	// R19 = how late our threads may wake up; from now on they may be later
	MOVD $SYS_prctl, R8
	MOVD $PR_GET_TIMERSLACK, R0
	SVC
	CMP  $0, R0
	BLE  processors          // an error, or a real-time process, which is always in time
	MOVD $SLACK, R1
	CMP  R1, R0
	BGE  processors
	MOVD R0, R19
	MOVD $SYS_prctl, R8
	MOVD $PR_SET_TIMERSLACK, R0
	SVC
	CBNZW R0, processors
	MOVD R19, ·slack(SB)
processors:

	// R19 = length of the mask of processors that we may use
	MOVD $SYS_sched_getaffinity, R8
	MOVD $0, R0
	MOVD $128, R1
	MOVD $·allowed(SB), R2
	SVC
	CMP  $0, R0
	BLE  files               // more processors than fit: then we use what we like
	MOVD R0, R19

	// R10 = the processor that we are on
	MOVD $SYS_getcpu, R8
	ADD  $LIMIT, RSP, R0
	MOVD $0, R1
	MOVD $0, R2
	SVC
	CBNZW R0, files
	MOVWU LIMIT(RSP), R10

	// stay there
	ADD  $MASK, RSP, R11
	MOVD $16, R12
clear:
	MOVD.P ZR, 8(R11)
	SUBS $1, R12
	BNE  clear
	ADD  $MASK, RSP, R2
	LSR  $6, R10, R12        // word and bit of the mask
	MOVD $1, R13
	LSL  R10, R13, R13
	MOVD R13, (R2)(R12<<3)
	MOVD $SYS_sched_setaffinity, R8
	MOVD $0, R0
	MOVD R19, R1
	SVC
	CBNZW R0, files
	MOVW R19, ·kept(SB)
files:

	// R19, R20 = how many files we may have open; for now it is three
	MOVD $SYS_getrlimit, R8
	MOVD $RLIMIT_NOFILE, R0
	ADD  $LIMIT, RSP, R1
	SVC
	CBNZW R0, begin
	MOVD LIMIT(RSP), R19
	MOVD LIMIT+8(RSP), R20
	CMP  $FILES, R19
	BLS  begin
	MOVD $FILES, R2
	MOVD R2, LIMIT(RSP)
	MOVD $SYS_setrlimit, R8
	MOVD $RLIMIT_NOFILE, R0
	SVC
	CBNZW R0, begin
	MOVD R19, box∕internal∕admit∕files·lowered(SB)
	MOVD R20, box∕internal∕admit∕files·lowered+8(SB)
begin:
	ADD  $FRAME, RSP
	B    _rt0_arm64_linux(SB)
