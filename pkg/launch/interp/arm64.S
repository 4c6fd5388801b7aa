// The interpreter of launch programs for arm64. It is fixed: everything that differs
// between two programs is in the data that compile.go lays out; the layout of the data
// and of a step is told in amd64.S and is the same here.
//
// Register use: x19 DATA, x20 the step, x21 the end of the steps, x22 the slots,
// x9 to x13 scratch. System calls keep all of them. No stack.

        .set    DATA, 0x10001000
        .set    STEP, 80
        .text
        .globl  _start
_start:
        movz    x19, #(DATA & 0xffff)
        movk    x19, #(DATA >> 16), lsl #16
        ldr     x20, [x19]              // the first step
        ldr     x21, [x19, #8]          // after the last one
        add     x22, x19, #24           // the slots
next:
        cmp     x20, x21                // past the last one?
        b.hs    finish
        ldrb    w9, [x20, #4]           // which arguments are slots
        .macro  argument n
        ldr     x\n, [x20, #(8 + 8 * \n)] // the constant, or the number of the slot
        tbz     w9, #\n, 0f
        ldr     x\n, [x22, x\n, lsl #3] // the slot's value
0:
        .endm
        argument 0
        argument 1
        argument 2
        argument 3
        argument 4
        argument 5
        ldr     w8, [x20]               // the call
        tbnz    w8, #31, pseudo
        svc     #0
result:
        ldrh    w10, [x20, #6]          // the slot for the result
        str     x0, [x22, x10, lsl #3]
        cmn     x0, #4095               // -4095 ... -1 is an errno
        b.hs    failed
        ldrsh   x10, [x20, #72]         // skip after success
advance:
        add     x10, x10, #1            // one step, and those to be skipped
        mov     x11, #STEP
        madd    x20, x10, x11, x20
        b       next
failed:
        neg     w0, w0                  // the errno
        mov     w13, #0xffff            // what stands for any errno
        add     x11, x20, #56           // the tolerated errors
        add     x12, x20, #72           // their end
tolerate:
        cmp     x11, x12
        b.hs    report
        ldrh    w10, [x11], #4          // the errno it tolerates; on to the next
        cbz     w10, report             // end of the list
        cmp     w10, w0
        b.eq    0f
        cmp     w10, w13
        b.ne    tolerate
0:      ldrsh   x10, [x11, #-2]         // skip after this error
        b       advance
report:
        ldrh    w10, [x20, #74]         // number of the step
        stp     w10, w0, [x19, #16]     // the record: step, errno
        ldr     x0, [x22, #8]           // report descriptor
        add     x1, x19, #16
        mov     x2, #8
        mov     x8, #64                 // write
        svc     #0
        mov     x0, #1                  // status 1
        b       exit
finish:
        mov     x0, #0                  // status 0
exit:
        mov     x8, #94                 // exit_group
        svc     #0
        udf     #0                      // a filter may forbid even that: never go on
pseudo:
        ands    w8, w8, #7
        b.eq    result                  // set: the argument is the result
        cmp     w8, #2
        b.lo    load
        b.eq    store
        cmp     w8, #3
        b.eq    store64
        and     x0, x0, x1              // expect: masked
        cmp     x0, x2                  // as wanted?
        b.eq    zero
        neg     x0, x3                  // the errno to fail with
        b       result
load:
        ldr     w0, [x0]                // zero-extended
        b       result
store:
        str     w1, [x0]
        b       zero
store64:
        str     x1, [x0]
zero:
        mov     x0, #0
        b       result

// Handler of the signals that end the program (quit.go finds it here, in the last 8
// bytes): the status is 128 and the signal's number, as shells have it. Nothing is
// returned to, so it may use any register.
        add     w0, w0, #128
        b       exit
