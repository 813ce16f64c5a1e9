//! bzImage kernels: the compressed image that distributions install as `/boot/vmlinuz`.
//!
//! | file offset | field (Linux `Documentation/arch/x86/boot.rst`) |
//! | --- | --- |
//! | `0x1f1` | setup_sects: 512-byte sectors of real-mode code after the first |
//! | `0x1f4` | syssize: 16-byte units of protected-mode code |
//! | `0x1fe` | boot_flag, `0xaa55` |
//! | `0x201` | end of the header, counted from `0x202` |
//! | `0x202` | `HdrS` |
//! | `0x206` | version |
//! | `0x211` | loadflags, bit 0: protected-mode code goes to 1 MiB |
//! | `0x22c` | initrd_addr_max: last byte an initrd may use |
//! | `0x236` | xloadflags, bit 0: 64-bit entry at `0x200` |
//! | `0x238` | cmdline_size, without the terminating zero |
//! | `0x258` | pref_address: where the kernel would like to run |
//! | `0x260` | init_size: memory it needs from there until it knows the memory map |

use vm_memory::{Address, GuestAddress};

use super::file::ImageFile;
use super::kernel::KernelFault;
use crate::arch::x86_64::layout;
use crate::memory::GuestMemory;

/// How much of a file [`BzImage::read`] wants to see.
pub(super) const HEAD_SIZE: usize = HEADER_LIMIT;

/// First byte of the setup header.
pub(super) const HEADER_START: usize = 0x1f1;
/// The setup header never reaches this far: the zero page has other fields from here.
const HEADER_LIMIT: usize = 0x290;
/// End of the fields that are used here.
const FIELDS_END: usize = 0x264;
const SECTOR: u64 = 512;
const PARAGRAPH: u64 = 16;
/// The first version that has xloadflags.
const VERSION_XLOADFLAGS: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const XLOAD_KERNEL_64: u16 = 1;
const ENTRY_64: u64 = 0x200;

/// A bzImage whose header was checked.
#[derive(Debug)]
pub(super) struct BzImage {
    setup_header: Vec<u8>,
    /// File range of the protected-mode code.
    offset: u64,
    size: u64,
    end: GuestAddress,
    initrd_end: GuestAddress,
    command_line_size: usize,
}

impl BzImage {
    /// Whether a file that begins with `head` says it is a bzImage.
    pub(super) fn has_magic(head: &[u8]) -> bool {
        head.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && head.get(0x202..0x206) == Some(b"HdrS")
    }

    /// Checks the header in `head` against the file's size.
    pub(super) fn read(head: &[u8], file_size: u64) -> Result<Self, KernelFault> {
        let fields = Fields::new(head).ok_or(KernelFault::Truncated {
            needed: 0x264,
            has: file_size,
        })?;
        let version = fields.u16(0x206);
        if version < VERSION_XLOADFLAGS
            || fields.u8(0x211) & LOADED_HIGH == 0
            || fields.u16(0x236) & XLOAD_KERNEL_64 == 0
        {
            return Err(KernelFault::Not64Bit { version });
        }
        // Zero stands for four, for the sake of loaders of the first kernels.
        let sectors = match fields.u8(0x1f1) {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let offset = (sectors + 1) * SECTOR;
        let size = u64::from(fields.u32(0x1f4)) * PARAGRAPH;
        if offset + size > file_size {
            return Err(KernelFault::Truncated {
                needed: offset + size,
                has: file_size,
            });
        }
        if size <= ENTRY_64 {
            return Err(KernelFault::Malformed("it has no protected-mode code"));
        }
        let header_end = 0x202 + usize::from(fields.u8(0x201));
        let setup_header = head
            .get(HEADER_START..header_end.min(HEADER_LIMIT))
            .ok_or(KernelFault::Malformed("its setup header is cut off"))?;
        Ok(Self {
            setup_header: setup_header.to_vec(),
            offset,
            size,
            end: memory_end(&fields, size)?,
            initrd_end: GuestAddress(u64::from(fields.u32(0x22c)) + 1),
            command_line_size: command_line_size(&fields),
        })
    }

    /// The 64-bit entry.
    pub(super) fn entry(&self) -> GuestAddress {
        layout::KERNEL_START.unchecked_add(ENTRY_64)
    }

    /// The end of the memory that the kernel uses before it knows the memory map, exclusive.
    pub(super) fn end(&self) -> GuestAddress {
        self.end
    }

    /// The end of what an initrd may use, exclusive.
    pub(super) fn initrd_end(&self) -> GuestAddress {
        self.initrd_end
    }

    /// Most bytes of the command line, its terminating zero included.
    pub(super) fn command_line_size(&self) -> usize {
        self.command_line_size
    }

    /// The setup header as it stands in the file, from offset [`HEADER_START`].
    pub(super) fn setup_header(&self) -> &[u8] {
        &self.setup_header
    }

    /// Places the protected-mode code at 1 MiB.
    pub(super) fn load(&self, memory: &GuestMemory, file: &ImageFile) -> Result<(), KernelFault> {
        Ok(file.place(memory, layout::KERNEL_START, self.offset, self.size)?)
    }
}

fn memory_end(fields: &Fields<'_>, size: u64) -> Result<GuestAddress, KernelFault> {
    let start = layout::KERNEL_START.raw_value();
    let runs_at = fields.u64(0x258).max(start);
    let runs_to = runs_at
        .checked_add(u64::from(fields.u32(0x260)))
        .ok_or(KernelFault::Malformed("its preferred address overflows"))?;
    Ok(GuestAddress(runs_to.max(start + size)))
}

fn command_line_size(fields: &Fields<'_>) -> usize {
    match usize::try_from(fields.u32(0x238)) {
        Ok(size) => size.saturating_add(1).min(layout::COMMAND_LINE_SIZE),
        Err(_) => layout::COMMAND_LINE_SIZE,
    }
}

/// The header's fields, by file offset. All offsets used are below [`FIELDS_END`].
struct Fields<'a>(&'a [u8; FIELDS_END]);

impl<'a> Fields<'a> {
    fn new(head: &'a [u8]) -> Option<Self> {
        head.first_chunk().map(Self)
    }

    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[offset..offset + N]);
        bytes
    }

    fn u8(&self, offset: usize) -> u8 {
        self.0[offset]
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A bzImage of `paragraphs` of protected-mode code, one setup sector, with a header as Linux 6.1's.
    pub(in super::super) fn sample(paragraphs: u32) -> Vec<u8> {
        let mut bytes = vec![0; 1024 + usize::try_from(paragraphs).unwrap() * 16];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        put(0x1f1, &[1]);
        put(0x1f4, &paragraphs.to_le_bytes());
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
        put(0x202, b"HdrS");
        put(0x206, &0x020f_u16.to_le_bytes());
        put(0x211, &[1]);
        put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
        put(0x236, &0x3f_u16.to_le_bytes());
        put(0x238, &2047_u32.to_le_bytes());
        put(0x258, &0x100_0000_u64.to_le_bytes());
        put(0x260, &0x20_0000_u32.to_le_bytes());
        for (at, byte) in bytes.iter_mut().enumerate().skip(1024) {
            *byte = u8::try_from(at % 255).unwrap();
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<BzImage, KernelFault> {
        let head = &bytes[..bytes.len().min(HEAD_SIZE)];
        BzImage::read(head, u64::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn a_good_header_tells_entry_room_and_limits() {
        let bytes = sample(100);
        assert!(BzImage::has_magic(&bytes));
        let image = read(&bytes).unwrap();
        assert_eq!(image.entry(), GuestAddress(0x10_0200));
        assert_eq!(image.end(), GuestAddress(0x120_0000));
        assert_eq!(image.initrd_end(), GuestAddress(0x8000_0000));
        assert_eq!(image.command_line_size(), 2048);
        assert_eq!((image.offset, image.size), (1024, 1600));
        assert_eq!(image.setup_header(), &bytes[0x1f1..0x26c]);
    }

    #[test]
    fn zero_setup_sectors_stand_for_four() {
        let mut bytes = sample(200);
        bytes[0x1f1] = 0;
        bytes[0x1f4..0x1f8].copy_from_slice(&100_u32.to_le_bytes());
        assert_eq!(read(&bytes).unwrap().offset, 5 * 512);
    }

    #[test]
    fn bad_headers_are_refused() {
        let table: [(usize, &[u8], &str); 6] = [
            (0x206, &[0x0b, 0x02], "no 64-bit entry (boot protocol 2.11)"),
            (0x211, &[0], "no 64-bit entry"),
            (0x236, &[0, 0], "no 64-bit entry"),
            (0x1f4, &[0xff; 4], "truncated"),
            (0x1f4, &[0; 4], "no protected-mode code"),
            (0x258, &[0xff; 8], "overflows"),
        ];
        for (offset, field, sentence) in table {
            let mut bytes = sample(100);
            bytes[offset..offset + field.len()].copy_from_slice(field);
            let fault = read(&bytes).unwrap_err().to_string();
            assert!(fault.contains(sentence), "{fault}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample(64);
        for length in 0x206..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length:#x}");
        }
    }
}
