//! Memory of outputs, which is used again instead of going back to the system.
//!
//! A page of fresh memory costs the system more than a kernel takes to fill it. What is freed is therefore kept, within
//! bounds, and handed out to the next output of about its size.
//!
//! Each block is a mapping of its own: an allocator that takes blocks of many sizes from one heap leaves holes in it, which
//! on texts of varying length come to as much again as the activations.

use std::{
    alloc::{Layout, handle_alloc_error},
    collections::BTreeMap,
    mem::MaybeUninit,
    sync::{Mutex, MutexGuard},
};

use burn::{
    backend::flex::{FlexTensor, Layout as TensorLayout},
    tensor::{Bytes, DType, Shape},
};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};
use memmap2::{MmapMut, MmapOptions};

/// Outputs of fewer numbers are left to the allocator, which does not ask the system for each.
const SMALL: usize = 1 << 14;

/// The share of the most that was in use by which more than that may be held, so that what one phase of a step leaves
/// unused needs not make place for what the next one lacks.
const SLACK: usize = 16;

/// The share of an output by which its block may be larger.
const FIT: usize = 4;

/// A float32 tensor whose values `fill` writes; what it finds there is of no meaning.
pub(crate) fn output<const D: usize>(
    shape: [usize; D],
    fill: impl FnOnce(&mut [f32]),
) -> FlexTensor {
    let length = shape.iter().product();
    let bytes = if length < SMALL {
        let mut values = vec![0.0; length];
        fill(&mut values);
        Bytes::from_elems(values)
    } else {
        let mut block = Block { memory: Some(store().take(length)) };
        fill(&mut block.values_mut()[..length]);
        // SAFETY: the block holds at least `length` numbers, and a number is initialised from the start.
        unsafe { Bytes::from_controller(Box::new(block), length * size_of::<f32>()) }
    };
    FlexTensor::new(bytes, TensorLayout::contiguous(Shape::from(shape)), DType::F32)
}

/// Memory that goes back to the store.
struct Block {
    /// None once it has gone back.
    memory: Option<MmapMut>,
}

impl Block {
    fn memory(&self) -> &MmapMut {
        self.memory.as_ref().expect("memory") // INVARIANT: it goes back with the block's end alone.
    }

    fn memory_mut(&mut self) -> &mut MmapMut {
        self.memory.as_mut().expect("memory") // INVARIANT: as above.
    }

    fn values_mut(&mut self) -> &mut [f32] {
        let bytes = self.memory_mut();
        let length = bytes.len() / size_of::<f32>();
        // SAFETY: a mapping begins at a page, so that numbers are aligned, lies in one piece of at least `length` numbers, and is
        // initialised by the system; any four bytes are a number. It is borrowed mutably from `self`.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            store().give(memory);
        }
    }
}

impl AllocationController for Block {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = Block::memory(self);
        // SAFETY: initialised bytes are bytes that may be; they are borrowed from `self`.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = Block::memory_mut(self);
        // SAFETY: as above, and borrowed mutably; the caller writes initialised bytes only.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) })
    }
}

/// Free memory by size, and how much there is, in numbers.
struct Store {
    free: BTreeMap<usize, Vec<MmapMut>>,
    cached: usize,
    used: usize,
    most_used: usize,
}

static STORE: Mutex<Store> =
    Mutex::new(Store { free: BTreeMap::new(), cached: 0, used: 0, most_used: 0 });

fn store() -> MutexGuard<'static, Store> {
    // No code in between can leave the numbers inconsistent but by running out of memory.
    STORE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Store {
    /// Memory for at least `length` numbers, some of the last user's values in it.
    fn take(&mut self, length: usize) -> MmapMut {
        let kept = self.free.range(length..=length + length / FIT).next().map(|(size, _)| *size);
        let memory = match kept {
            Some(size) => self.pop(size),
            None => {
                let most_used = self.most_used.max(self.used + length);
                while self.used + self.cached + length > most_used + most_used / SLACK
                    && let Some((size, _)) = self.free.last_key_value()
                {
                    self.pop(*size);
                }
                fresh(length)
            }
        };
        self.used += numbers(&memory);
        self.most_used = self.most_used.max(self.used);
        memory
    }

    fn pop(&mut self, size: usize) -> MmapMut {
        let same = self.free.get_mut(&size).expect("blocks of that size"); // INVARIANT: `size` is a key.
        let memory = same.pop().expect("a block"); // INVARIANT: no list is left empty.
        if same.is_empty() {
            self.free.remove(&size);
        }
        self.cached -= size;
        memory
    }

    fn give(&mut self, memory: MmapMut) {
        let size = numbers(&memory);
        self.used -= size;
        self.cached += size;
        self.free.entry(size).or_default().push(memory);
    }
}

/// The numbers that a block was made for.
fn numbers(memory: &MmapMut) -> usize {
    memory.len() / size_of::<f32>()
}

/// Zeros from the system, in large pages where it has them.
fn fresh(length: usize) -> MmapMut {
    let bytes = length * size_of::<f32>();
    let Ok(memory) = MmapOptions::new().len(bytes).map_anon() else {
        // As where the allocator has no more.
        handle_alloc_error(Layout::from_size_align(bytes, align_of::<f32>()).expect("a size")); // INVARIANT: a tensor's bytes fit.
    };
    // That it may fail is of no consequence.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn empty() -> Store {
        Store { free: BTreeMap::new(), cached: 0, used: 0, most_used: 0 }
    }

    #[test]
    fn what_is_given_is_taken_again() {
        let mut store = empty();
        let memory = store.take(1000);
        let address = memory.as_ptr();
        store.give(memory);
        let again = store.take(900);
        assert_eq!((again.as_ptr(), numbers(&again)), (address, 1000));
        assert_eq!((store.used, store.cached, store.most_used), (1000, 0, 1000));
        // Much too large for this one.
        store.give(again);
        assert_eq!(numbers(&store.take(500)), 500);
    }

    #[test]
    fn little_more_is_kept_than_was_in_use() {
        let mut store = empty();
        for length in [1000, 2000, 4000, 700, 2000, 300] {
            let memory = store.take(length);
            store.give(memory);
            assert!(store.cached <= 4000 + 4000 / SLACK, "{}", store.cached);
        }
        assert_eq!(store.most_used, 4000);
    }

    #[test]
    fn tensors_share_and_return_their_memory() {
        let tensor = output([SMALL, 2], |out| out.fill(3.0));
        let mut copy = tensor.clone();
        copy.storage_mut::<f32>()[0] = 4.0;
        assert_eq!(tensor.as_slice::<f32>().unwrap(), vec![3.0; 2 * SMALL]);
        assert_eq!(copy.as_slice::<f32>().unwrap()[..2], [4.0, 3.0]);
        assert_eq!(copy.into_data().try_into_vec::<f32>().unwrap().len(), 2 * SMALL);
    }
}
