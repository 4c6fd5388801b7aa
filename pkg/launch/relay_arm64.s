#include "textflag.h"

// The handlers are called by the kernel, on the thread's signal stack, with all
// signals blocked: R0 has the signal, R1 its siginfo, R30 the way back to
// rt_sigreturn(2), which restores every register. They touch no Go state but three
// variables.

// func relayHandlers() (all, fault uintptr)
TEXT ·relayHandlers(SB), NOSPLIT, $0-16
	MOVD $relaySignal<>(SB), R0
	MOVD R0, all+0(FP)
	MOVD $relayFault<>(SB), R0
	MOVD R0, fault+8(FP)
	RET

// came[signal] = 1, before relayTo is read. Then
// pidfd_send_signal(relayTo, signal, NULL, 0); there is nobody to tell of an error
TEXT relaySignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVW R0, R1
	MOVD $·came(SB), R9
	ADD  R1<<2, R9, R9
	MOVD $1, R10
	MOVW R10, (R9)
	DMB  $0xb                   // ISH: all that came before, for all processors
	MOVW ·relayTo(SB), R0
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD $424, R8
	SVC
	RET

TEXT relayFault<>(SB), NOSPLIT|NOFRAME, $0
	MOVW 8(R1), R9              // si_code: above zero the kernel means us
	CMPW $0, R9
	BLE  relay
	MOVD ·faultHandler(SB), R9  // gets R0 to R2 as they came
	JMP  (R9)
relay:
	JMP  relaySignal<>(SB)
