#include "textflag.h"

// The handlers are called by the kernel, on the thread's signal stack, with all
// signals blocked: DI has the signal, SI its siginfo. rt_sigreturn(2) restores every
// register, so they may use any. They touch no Go state but three variables.

// func relayHandlers() (all, fault uintptr)
TEXT ·relayHandlers(SB), NOSPLIT, $0-16
	LEAQ relaySignal<>(SB), AX
	MOVQ AX, all+0(FP)
	LEAQ relayFault<>(SB), AX
	MOVQ AX, fault+8(FP)
	RET

// came[signal] = 1, before relayTo is read: the exchange is a barrier. Then
// pidfd_send_signal(relayTo, signal, NULL, 0); there is nobody to tell of an error
TEXT relaySignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVL DI, SI
	LEAQ ·came(SB), AX
	MOVL $1, DX
	XCHGL DX, (AX)(SI*4)
	MOVL ·relayTo(SB), DI
	XORL DX, DX
	XORL R10, R10
	MOVL $424, AX
	SYSCALL
	RET

TEXT relayFault<>(SB), NOSPLIT|NOFRAME, $0
	CMPL 8(SI), $0              // si_code: above zero the kernel means us
	JLE  relay
	MOVQ ·faultHandler(SB), AX  // gets DI, SI and DX as they came
	JMP  AX
relay:
	JMP  relaySignal<>(SB)
