//! The probe's guest: one sector of machine code.

/// What the guest writes to the exit port.
pub(super) const PROBE_ANSWER: u8 = 0x21;

/// Instructions from 0x7c00 on (Intel SDM volume 2): from real mode to 64-bit mode by three page
/// tables at 0x1000 with one 2 MiB page, CR4.PAE, EFER.LME and CR0.PG|PE; then 2^20 additions to
/// memory and CPUID, which is what a kernel's first millisecond does; then the answer.
const CODE: [&[u8]; 20] = [
    b"\xfa\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0", // cli; ds = es = ss = 0
    b"\xbc\x00\x7c\xfc",                     // sp = 0x7c00; cld
    b"\x66\xbf\x00\x10\x00\x00\x0f\x22\xdf", // edi = 0x1000; cr3 = edi
    b"\x66\x31\xc0\x66\xb9\x00\x0c\x00\x00", // eax = 0; ecx = 0xc00
    b"\x66\xf3\xab\xbf\x00\x10",             // clear the tables; di = 0x1000
    b"\x66\xc7\x05\x03\x20\x00\x00",         // level 4 leads to 0x2000
    b"\x66\xc7\x85\x00\x10\x03\x30\x00\x00", // level 3 leads to 0x3000
    b"\x66\xc7\x85\x00\x20\x83\x00\x00\x00", // level 2 is a 2 MiB page at 0
    b"\x0f\x20\xe0\x66\x83\xc8\x20\x0f\x22\xe0", // cr4 |= PAE
    b"\x66\xb9\x80\x00\x00\xc0\x0f\x32",     // rdmsr EFER
    b"\x66\x0d\x00\x01\x00\x00\x0f\x30",     // EFER |= LME
    b"\x0f\x20\xc0\x66\x0d\x01\x00\x00\x80", // eax = cr0 | PG | PE
    b"\x0f\x22\xc0",                         // cr0 = eax
    b"\x0f\x01\x16\xa0\x7c",                 // lgdt [0x7ca0]
    b"\xea\x6e\x7c\x08\x00",                 // to the 64-bit segment, 0x7c6e
    b"\xb9\x00\x00\x10\x00",                 // ecx = 2^20
    b"\xbf\x00\x00\x08\x00\x01\x0f\xe2\xf7", // 1: [0x80000] += ecx; loop 1b
    b"\x31\xc0\x0f\xa2",                     // cpuid 0
    &[0x66, 0xba, 0xf4, 0x00, 0xb0, PROBE_ANSWER, 0xee], // out 0xf4, al
    b"\xf4\xeb\xfd",                         // 2: hlt; jmp 2b
];
/// 64-bit code segment, present, ring 0; at 0x7c98, the second of the table at 0x7c90.
const DESCRIPTOR: [u8; 8] = [0, 0, 0, 0, 0, 0x9a, 0x20, 0];
/// What `lgdt` loads: limit 15, address 0x7c90.
const TABLE: [u8; 6] = [0x0f, 0, 0x90, 0x7c, 0, 0];

/// The sector, which is a whole disk.
pub(super) fn probe_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    let code = CODE.concat();
    sector[..code.len()].copy_from_slice(&code);
    sector[0x98..0xa0].copy_from_slice(&DESCRIPTOR);
    sector[0xa0..0xa6].copy_from_slice(&TABLE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
