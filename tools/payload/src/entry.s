# Entry from the monitor, by the 64-bit Linux protocol (rsi: boot_params) or by PVH (ebx: start_info).
#
# Both ways tell the world that the guest runs with one byte on COM1, take over the page tables,
# the descriptor tables and the task state below, and leave for privilege level 3. There a KVM that
# runs only user mode natively (a page-table KVM) is as fast as any other.

    .set SERIAL, 0x3f8
    .set MARK, '#'
    .set CODE, 0x10
    .set TASK, 0x40
    .global level0, task_state      # for the linker script

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                  # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

    .section .text.entry, "ax"
    .code64
    .global _start
_start:                             # Linux x86 boot protocol, "64-bit boot protocol"
    mov dx, SERIAL
    mov al, MARK
    out dx, al
    cli
    mov edi, esi
    xor esi, esi
    mov eax, offset pml4
    mov cr3, rax
    lgdt [gdt_pointer]
    jmp common

    .code32
pvh_entry:                          # Xen "x86/HVM direct boot ABI": protected mode, no paging
    mov dx, SERIAL
    mov al, MARK
    out dx, al
    cli
    mov eax, cr4
    or eax, 0x20                    # PAE
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    or eax, 0x80000001              # PG, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    ljmp CODE, offset pvh_long_mode

    .code64
pvh_long_mode:
    mov edi, ebx
    mov esi, 1

common:                             # edi: the boot protocol's structure, esi: 0 Linux, 1 PVH
    mov rax, cr4
    or eax, 0x600                   # OSFXSR, OSXMMEXCPT: compiled code uses SSE
    mov cr4, rax
    mov rax, cr0
    and eax, 0xfffffffb             # EM off
    or eax, 2                       # MP on
    mov cr0, rax
    xor eax, eax
    mov ds, ax
    mov es, ax
    lidt [idt_pointer]
    mov ax, TASK
    ltr ax
    mov al, 0xff                    # both PICs masked: nothing may interrupt level 3
    out 0x21, al
    out 0xa1, al
    mov ecx, 0x174                  # IA32_SYSENTER_CS: sysexit's selectors derive from it
    mov eax, CODE
    xor edx, edx
    wrmsr
    mov ecx, offset stack_top
    mov esp, ecx
    mov edx, offset level3
    sysexitq                        # to rdx with stack rcx, CS 0x33, SS 0x3b

level0:                             # invalid opcode: a processor without sysexitq stays at level 0
    mov esp, offset stack_top
    xor edx, edx
    jmp enter
level3:
    mov edx, 3
enter:
    xor ebp, ebp
    call payload_main
    ud2

    .section .data.tables, "aw"
    .balign 4096
    # Present, writable, user, accessed; leaves: dirty and 2 MiB too. Nothing of them is ever written.
pml4:
    .quad pdpt + 0x27
    .fill 511, 8, 0
pdpt:
    .quad pd_low + 0x27             # 0 - 1 GiB: memory
    .quad 0, 0
    .quad pd_high + 0x27            # 3 - 4 GiB: devices
    .fill 508, 8, 0
pd_low:
    .set page, 0
    .rept 512
    .quad page + 0xe7
    .set page, page + 0x200000
    .endr
pd_high:
    .set page, 0xc0000000
    .rept 512
    .quad page + 0xe7
    .set page, page + 0x200000
    .endr

    # The order that sysexit expects from IA32_SYSENTER_CS = 0x10 (Intel SDM 2B, SYSEXIT).
gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff        # 0x10 code, level 0, 64-bit
    .quad 0x00cf93000000ffff        # 0x18 data, level 0
    .quad 0x00cffb000000ffff        # 0x20 code, level 3, 32-bit
    .quad 0x00cff3000000ffff        # 0x28 data, level 3
    .quad 0x00affb000000ffff        # 0x30 code, level 3, 64-bit
    .quad 0x00cff3000000ffff        # 0x38 data, level 3
    .word 0x2000, task_low          # 0x40 task state
    .byte task_middle, 0x89, 0, 0
    .quad 0
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .quad gdt
    .balign 16
idt:
    .fill 12, 8, 0
    .word level0_low, CODE          # 6, invalid opcode: interrupt gate
    .byte 0, 0x8e
    .word level0_high
    .quad 0
idt_pointer:
    .word idt_pointer - idt - 1
    .quad idt

    .section .bss.stack, "aw", @nobits
    .balign 4096
task_state:                         # all zero: the I/O bitmap starts at offset 0 and permits every port
    .fill 8193, 1, 0
    .balign 4096
    .fill 65536, 1, 0
stack_top:
