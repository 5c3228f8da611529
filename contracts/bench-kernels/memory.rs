//! Memory for a contract that is instantiated for each call: blocks are powers of two, freed ones wait in a list of
//! their size, new ones are cut from the end.

use core::{
    alloc::{GlobalAlloc, Layout},
    arch::wasm32::{memory_grow, memory_size},
    cell::UnsafeCell,
    ptr::null_mut,
};

const PAGE: usize = 64 << 10;
const SMALLEST: usize = 16;

struct Blocks {
    /// First free block of each size; a free block's first word is the next.
    free: [usize; 32],
    next: usize,
    end: usize,
}

struct Memory(UnsafeCell<Blocks>);

// SAFETY: a contract has one thread.
unsafe impl Sync for Memory {}

#[global_allocator]
static MEMORY: Memory = Memory(UnsafeCell::new(Blocks { free: [0; 32], next: 0, end: 0 }));

fn block(layout: Layout) -> usize {
    layout.size().max(SMALLEST).next_power_of_two()
}

// SAFETY: blocks do not overlap, hold the layout's size, and are aligned to 16 bytes, more than which is refused.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > SMALLEST {
            return null_mut();
        }
        // SAFETY: there is one thread, and nothing below calls back.
        let blocks = unsafe { &mut *self.0.get() };
        let size = block(layout);
        let list = size.trailing_zeros() as usize;
        let first = blocks.free[list];
        if first != 0 {
            // SAFETY: `first` is a free block, which begins with the next one's address.
            blocks.free[list] = unsafe { *(first as *const usize) };
            return first as *mut u8;
        }
        blocks.cut(size).map_or(null_mut(), |start| start as *mut u8)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the block is no longer used, and large enough for an address.
        unsafe {
            let blocks = &mut *self.0.get();
            let list = block(layout).trailing_zeros() as usize;
            *pointer.cast::<usize>() = blocks.free[list];
            blocks.free[list] = pointer as usize;
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller warrants that `size` makes a layout.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            if block(new) == block(layout) {
                return pointer;
            }
            let moved = self.alloc(new);
            if !moved.is_null() {
                pointer.copy_to_nonoverlapping(moved, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }
}

impl Blocks {
    /// A new block from the end of what is used; asks for pages where there are too few.
    fn cut(&mut self, size: usize) -> Option<usize> {
        if self.end == 0 {
            // All that the linker placed lies below the memory's first size.
            self.end = memory_size(0) * PAGE;
            self.next = self.end;
        }
        let (start, next) = (self.next, self.next.checked_add(size)?);
        if next > self.end {
            let pages = (next - self.end).div_ceil(PAGE);
            if memory_grow(0, pages) == usize::MAX {
                return None;
            }
            self.end += pages * PAGE;
        }
        self.next = next;
        Some(start)
    }
}
