//! The process's allocator: mimalloc, and a typed end where there is no more memory.
#![allow(unsafe_code)] // An allocator can't be written without; nothing else in this crate is unsafe.

use std::alloc::{GlobalAlloc, Layout};

use deepmarket_job::protocol::EXIT_OUT_OF_MEMORY;
use mimalloc::MiMalloc;

/// mimalloc (it made training up to a quarter faster), ending the process with [`EXIT_OUT_OF_MEMORY`] where the lent memory
/// is used up, so that the worker can say why a lease failed. Rust's own answer would be an abort like any crash.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn or_end(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        // Neither of these allocates.
        eprintln!("the lent memory is used up");
        std::process::exit(EXIT_OUT_OF_MEMORY);
    }
    pointer
}

// SAFETY: every call is handed on to mimalloc unchanged, and its answer is handed back unchanged unless it is null, where
// the process ends.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        or_end(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        or_end(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        or_end(unsafe { MiMalloc.realloc(pointer, layout, new_size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from mimalloc through this allocator, with this layout.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}
