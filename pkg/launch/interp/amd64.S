# The interpreter of launch programs for x86-64. It is fixed: everything that differs
# between two programs is in the data that compile.go lays out, at DATA:
#
#     DATA+0   address of the first step
#     DATA+8   address after the last step
#     DATA+16  the report record: u32 number of the step, u32 errno
#     DATA+24  the slots, u64 each: 0 discards, 1 is the report descriptor
#
# A step is 80 bytes: 0 u32 call (bit 31: a pseudo-call), 4 u8 bit i set: argument i is
# a slot, 6 u16 slot for the result, 8 u64[6] arguments, 56 {u16 errno, s16 skip}[4]
# tolerated errors (errno 0 ends the list, 0xffff is any), 72 s16 skip after success,
# 74 u16 number of this step.
#
# Register use: r12 the step, ebx its slot mask. The stack is used for six words.
# Position independent but for DATA; no relocations.

        .set    DATA, 0x10001000
        .set    END, DATA+8
        .set    RECORD, DATA+16
        .set    SLOTS, DATA+24
        .set    STEP, 80
        .text
        .globl  _start
_start:
        mov     DATA, %r12              # the first step
next:
        cmp     END, %r12               # past the last one?
        jae     finish
        movzbl  4(%r12), %ebx           # which arguments are slots
        xor     %ecx, %ecx              # number of the argument
        sub     $48, %rsp               # room for six
argument:
        mov     8(%r12,%rcx,8), %rax    # the constant, or the number of the slot
        bt      %ecx, %ebx
        jnc     0f
        mov     SLOTS(,%rax,8), %rax    # the slot's value
0:      mov     %rax, (%rsp,%rcx,8)
        inc     %ecx
        cmp     $6, %ecx
        jb      argument
        pop     %rdi                    # into the registers of the system call
        pop     %rsi
        pop     %rdx
        pop     %r10
        pop     %r8
        pop     %r9
        mov     (%r12), %eax            # the call
        test    %eax, %eax
        js      pseudo                  # bit 31
        syscall
result:
        movzwl  6(%r12), %ecx           # the slot for the result
        mov     %rax, SLOTS(,%rcx,8)
        cmp     $-4095, %rax            # -4095 ... -1 is an errno
        jae     failed
        movswq  72(%r12), %rcx          # skip after success
advance:
        inc     %rcx                    # one step, and those to be skipped
        imul    $STEP, %rcx, %rcx
        add     %rcx, %r12
        jmp     next
failed:
        neg     %eax                    # the errno
        xor     %ecx, %ecx              # number of the tolerated error
tolerate:
        movzwl  56(%r12,%rcx,4), %edx   # the errno it tolerates
        test    %edx, %edx
        jz      report                  # end of the list
        cmp     %eax, %edx
        je      0f
        cmp     $0xffff, %edx           # any
        je      0f
        inc     %ecx
        cmp     $4, %ecx
        jb      tolerate
report:
        movzwl  74(%r12), %ecx          # number of the step
        mov     %ecx, RECORD
        mov     %eax, RECORD+4          # errno
        mov     SLOTS+8, %rdi           # report descriptor
        mov     $RECORD, %esi
        mov     $8, %edx
        mov     $1, %eax                # write
        syscall
        mov     $1, %edi                # status 1
        jmp     exit
0:      movswq  58(%r12,%rcx,4), %rcx   # skip after this error
        jmp     advance
finish:
        xor     %edi, %edi              # status 0
exit:
        mov     $231, %eax              # exit_group
        syscall
        ud2                             # a filter may forbid even that: never go on
pseudo:
        and     $7, %eax
        jz      set
        dec     %eax
        jz      load
        dec     %eax
        jz      store
        dec     %eax
        jz      store64
        and     %rsi, %rdi              # expect: masked
        cmp     %rdx, %rdi              # as wanted?
        je      zero
        mov     %r10, %rax              # the errno to fail with
        neg     %rax
        jmp     result
set:
        mov     %rdi, %rax
        jmp     result
load:
        mov     (%rdi), %eax            # zero-extended
        jmp     result
store:
        mov     %esi, (%rdi)
        jmp     zero
store64:
        mov     %rsi, (%rdi)
zero:
        xor     %eax, %eax
        jmp     result

# Handler of the signals that end the program (quit.go finds it here, in the last 8
# bytes): the status is 128 and the signal's number, as shells have it. Nothing is
# returned to, so it may use any register.
        add     $128, %edi
        jmp     exit
