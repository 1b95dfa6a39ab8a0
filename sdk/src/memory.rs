//! Where a call's memory comes from. It begins with a fresh memory and leaves none behind, so that what counts is how
//! little code this is, and that small calls never ask the host for more: to grow a memory and to shrink it again for
//! the next call costs two changes of protection, a sixth of a small call.
//!
//! Invariant: whatever is handed to the allocator is nobody else's.

use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Bytes that are there from the start; a page that is not touched costs nothing.
const ROOM: usize = 128 * 1024;
/// By how much a memory grows at least.
const PAGE: usize = 64 * 1024;

static mut FIRST: [MaybeUninit<u8>; ROOM] = [MaybeUninit::uninit(); ROOM];

#[global_allocator]
static MEMORY: TalcSyncCell<FirstThenGrown, WasmBinning> =
    TalcSyncCell::new_wasm(FirstThenGrown { begun: false, end: None });

/// The room of the start, then what the host gives.
#[derive(Debug)]
struct FirstThenGrown {
    begun: bool,
    /// Where what was grown last ends.
    end: Option<NonNull<u8>>,
}

// SAFETY: it allocates nothing itself, and gives the allocator memory that nothing else names: `FIRST` once, and pages
// that did not exist before.
#[expect(unsafe_code, reason = "an allocator is handed raw memory, and its trait says so")]
unsafe impl Source for FirstThenGrown {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        if !talc.source.begun {
            talc.source.begun = true;
            // SAFETY: nothing else names it, and this is the only time.
            return unsafe { talc.claim((&raw mut FIRST).cast(), ROOM) }.map(|_| ()).ok_or(());
        }
        // What is asked for, its alignment, and what the allocator writes beside it.
        let pages = (layout.size() + layout.align() + 64).div_ceil(PAGE);
        let before = core::arch::wasm32::memory_grow::<0>(pages);
        if before == usize::MAX {
            return Err(());
        }
        let base = (before * PAGE) as *mut u8;
        let new_end = base.wrapping_add(pages * PAGE);
        talc.source.end = match talc.source.end {
            // SAFETY: what was grown last ends where these pages begin, and they are new.
            Some(end) if end.as_ptr() == base => Some(unsafe { talc.extend(end, new_end) }),
            // SAFETY: these pages are new.
            Some(_) | None => unsafe { talc.claim(base, pages * PAGE) },
        };
        Ok(())
    }
}
