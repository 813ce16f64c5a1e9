//! What of this program stays in memory while a guest runs.
#![expect(
    unsafe_code,
    reason = "the program's own headers, and advice about the memory they describe, go by address"
)]

use std::ops::Range;
use std::{io, slice};

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use rustix::param::page_size;
use rustix::process::getpid;
use rustix::thread::gettid;

/// Has all threads take from one heap: each would open a heap of its own for the few bytes it needs, and they take
/// too seldom to wait for each other. To be called before the second thread starts.
pub(crate) fn share_one_heap() {
    const ONE: libc::c_int = 1;
    // SAFETY: the call takes no pointer; it sets how many heaps the allocator may open.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ONE) };
}

/// How far below the present call the stack is given back, in bytes: no start of ours goes deeper, and no other
/// mapping may lie so near below the first thread's stack (Linux keeps 1 MiB free, `stack_guard_gap`).
const STACK_DEPTH: usize = 256 << 10;
/// How much of the stack below the present call stays, in bytes: the calls that give the rest back are made there.
const STACK_LEFT: usize = 2 << 10;

/// Lets go of what only a start needs: code and constants, what the heap has free, and the stack's depth. To be
/// called by the process's first thread.
pub(crate) fn let_go_of_start() {
    let_go_of_code();
    let_go_of_flags();
}

/// Lets go of what reading the command line needed of heap and stack. Code stays: a start is to come. To be
/// called by the process's first thread.
pub(crate) fn let_go_of_flags() {
    trim_heap();
    // Below another thread's stack lies what is not its own.
    if gettid() == getpid() {
        trim_stack();
    }
}

/// Lets go of the program's code and constants: what a start needs and a running guest does not (flags,
/// loaders, tables) leaves the process, what it does need comes back from the page cache when it is touched.
///
/// **Only whole pages of segments that nobody may write are named**: they hold what the file holds. A page
/// that the dynamic linker or a program wrote to is never among them. A debugger's breakpoints are: it sets
/// them again when it stops the program.
fn let_go_of_code() {
    for range in code() {
        if let Err(error) = discard(&range) {
            log::debug!("the program's pages at {range:#x?} stay in memory: {error}");
        }
    }
}

/// Gives free pages of the heap back: what the parsed flags, the loaders and the tables took (malloc_trim(3)).
fn trim_heap() {
    // SAFETY: the call takes no pointer, and the allocator gives back only pages that nobody holds.
    unsafe { libc::malloc_trim(0) };
}

/// Gives back the pages of the stack that deeper calls have used and left: those of the flags' parser above all.
fn trim_stack() {
    let here = 0_u8;
    let end = (&raw const here).addr().saturating_sub(STACK_LEFT);
    let end = end - end % page_size();
    let start = std::ptr::with_exposed_provenance_mut(end.saturating_sub(STACK_DEPTH));
    // SAFETY: the range lies below every frame of this thread, those of the call itself included, so that nothing
    // in it is alive; and it holds nothing but this thread's stack and, below that, no mapping.
    let given = unsafe { madvise(start, STACK_DEPTH, Advice::LinuxDontNeed) };
    match given {
        // The stack has not been so deep: what there was of it is given back all the same.
        Ok(()) | Err(Errno::NOMEM) => {}
        Err(error) => log::debug!("the stack stays in memory: {error}"),
    }
}

/// The whole pages of the program's read-only segments.
fn code() -> Vec<Range<usize>> {
    let headers = headers();
    let page = page_size();
    // The headers say where they lie in the file; where they lie in memory tells what was added to every
    // address of this position-independent program.
    let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) else {
        return Vec::new();
    };
    let moved = headers.as_ptr().addr().wrapping_sub(address(own.p_vaddr));
    let read_only = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
    let whole_pages = read_only.map(|header| {
        let start = moved.wrapping_add(address(header.p_vaddr));
        let end = start.saturating_add(address(header.p_memsz));
        start.next_multiple_of(page)..end - end % page
    });
    whole_pages.filter(|range| !range.is_empty()).collect()
}

/// The program headers of this program, as the kernel has told where they are; none if it has not.
fn headers() -> &'static [libc::Elf64_Phdr] {
    // SAFETY: the call reads what the kernel gave the process at its start, and takes no pointer.
    let start = unsafe { libc::getauxval(libc::AT_PHDR) };
    // SAFETY: as above.
    let count = unsafe { libc::getauxval(libc::AT_PHNUM) };
    let start: *const libc::Elf64_Phdr = std::ptr::with_exposed_provenance(address(start));
    if start.is_null() {
        return &[];
    }
    // SAFETY: the kernel says that `count` headers lie at `start`; they are part of the program's first
    // segment, which is mapped and never written as long as the process lives.
    unsafe { slice::from_raw_parts(start, address(count)) }
}

fn discard(range: &Range<usize>) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: `range` holds whole pages of a private mapping of the program's file that nobody may write:
    // the next access finds in each what it held.
    unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) }.map_err(io::Error::from)
}

/// ravelin runs on 64-bit hosts only.
fn address(value: u64) -> usize {
    usize::try_from(value).expect("an address of this process fits usize")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;

    /// The mappings of this process: range, permissions, and resident KiB.
    fn mappings() -> Vec<(Range<usize>, String, usize)> {
        let text = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut found: Vec<(Range<usize>, String, usize)> = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap();
            let second = words.next().unwrap_or_default();
            if first == "Rss:" {
                found.last_mut().unwrap().2 = second.parse().unwrap();
            } else if let Some((start, end)) = first.split_once('-') {
                let hex = |text| usize::from_str_radix(text, 16).unwrap();
                found.push((hex(start)..hex(end), second.to_owned(), 0));
            }
        }
        found
    }

    /// Resident KiB of the mappings that hold `ranges`.
    fn resident(ranges: &[Range<usize>]) -> usize {
        let inside = |mapping: &Range<usize>| ranges.iter().any(|one| mapping.contains(&one.start));
        let found = mappings();
        let ours = found.iter().filter(|(mapping, ..)| inside(mapping));
        ours.map(|(_, _, kib)| kib).sum()
    }

    fn touch_all(ranges: &[Range<usize>]) {
        for range in ranges {
            let start = std::ptr::with_exposed_provenance_mut(range.start);
            // SAFETY: the advice only reads the mapped pages of `range` in.
            unsafe { madvise(start, range.len(), Advice::LinuxPopulateRead) }.unwrap();
        }
    }

    #[test]
    fn the_code_is_in_mappings_that_nobody_may_write() {
        let (ranges, mappings) = (code(), mappings());
        assert!(
            ranges
                .iter()
                .any(|range| range.contains(&(code as *const () as usize)))
        );
        for range in ranges {
            let holder = mappings
                .iter()
                .find(|(mapping, ..)| mapping.contains(&range.start));
            let (mapping, permissions, _) = holder.unwrap();
            assert!(range.end <= mapping.end, "{range:x?} {mapping:x?}");
            assert_eq!(permissions.as_bytes()[1], b'-', "{range:x?} {permissions}");
        }
    }

    #[test]
    fn code_that_was_let_go_is_gone_and_comes_back_when_it_runs() {
        let _alone = ALONE.lock().unwrap();
        let ranges = code();
        touch_all(&ranges);
        let before = resident(&ranges);
        let_go_of_code();
        let after = resident(&ranges);
        assert!(after * 2 < before, "{before} KiB before, {after} after");
        let text = format!(
            "{:?}",
            "17 18".split(' ').map(str::parse::<u8>).collect::<Vec<_>>()
        );
        assert_eq!(text, "[Ok(17), Ok(18)]");
    }

    /// Held by tests that look at the memory of the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    /// Resident pages of the whole process (proc(5), `statm`).
    fn pages() -> usize {
        let text = fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_the_heap_has_free_is_given_back() {
        const PAGES: usize = 4096;
        let _alone = ALONE.lock().unwrap();
        let mut blocks: Vec<Vec<u8>> = (0..PAGES).map(|_| vec![1; page_size()]).collect();
        // The last block stays: what lies below it is free, and not at the heap's end.
        blocks.drain(..PAGES - 1);
        let before = pages();
        trim_heap();
        let after = pages();
        assert!(
            after + PAGES / 2 < before,
            "{before} pages before, {after} after"
        );
    }

    /// Uses 4 KiB of the stack `calls` times.
    fn deep(calls: usize) -> usize {
        let frame = std::hint::black_box([1_u8; 4096]);
        match calls {
            0 => frame.len(),
            _ => deep(calls - 1) + std::hint::black_box(frame).len(),
        }
    }

    #[test]
    fn the_stack_of_calls_that_have_returned_is_given_back() {
        // A thread's stack of 2 MiB is deep enough for the range to be its own.
        let here = 0_u8;
        let stack = (&raw const here).addr();
        let range = stack..stack + 1;
        deep(80);
        let before = resident(slice::from_ref(&range));
        trim_stack();
        let after = resident(slice::from_ref(&range));
        assert!(after + 160 < before, "{before} KiB before, {after} after");
        assert!(deep(80) >= 80 * 4096);
    }
}
