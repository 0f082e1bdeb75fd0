//! Memory of outputs, which is used again instead of going back to the system.
//!
//! A page of fresh memory costs the system more than a kernel takes to fill it. What is freed is therefore kept, within
//! bounds, and handed out to the next output of about its size.

use std::{
    collections::BTreeMap,
    mem::MaybeUninit,
    sync::{Mutex, MutexGuard},
};

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

/// Outputs of fewer numbers are left to the allocator, which does not ask the system for each.
const SMALL: usize = 1 << 14;

/// The share of the most that was in use by which more than that may be held, so that what one phase of a step leaves
/// unused needs not make place for what the next one lacks.
const SLACK: usize = 4;

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
        let mut block = Block { values: store().take(length) };
        fill(&mut block.values[..length]);
        // SAFETY: the block holds at least `length` numbers, and a number is initialised from the start.
        unsafe { Bytes::from_controller(Box::new(block), length * size_of::<f32>()) }
    };
    FlexTensor::new(bytes, Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// Memory that goes back to the store.
struct Block {
    values: Vec<f32>,
}

impl Drop for Block {
    fn drop(&mut self) {
        store().give(std::mem::take(&mut self.values));
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
        let bytes = size_of_val(self.values.as_slice());
        // SAFETY: the numbers are that many bytes, all initialised, borrowed from `self`.
        Ok(unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), bytes) })
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes = size_of_val(self.values.as_slice());
        // SAFETY: as above, and borrowed mutably; the caller writes initialised bytes only, and any are a number.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.values.as_mut_ptr().cast(), bytes) })
    }
}

/// Free memory by size, and how much there is, in numbers.
struct Store {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
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
    fn take(&mut self, length: usize) -> Vec<f32> {
        let kept = self.free.range(length..=length + length / 4).next().map(|(size, _)| *size);
        let values = match kept {
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
        self.used += values.len();
        self.most_used = self.most_used.max(self.used);
        values
    }

    fn pop(&mut self, size: usize) -> Vec<f32> {
        let same = self.free.get_mut(&size).expect("blocks of that size"); // INVARIANT: `size` is a key.
        let values = same.pop().expect("a block"); // INVARIANT: no list is left empty.
        if same.is_empty() {
            self.free.remove(&size);
        }
        self.cached -= size;
        values
    }

    fn give(&mut self, values: Vec<f32>) {
        self.used -= values.len();
        self.cached += values.len();
        self.free.entry(values.len()).or_default().push(values);
    }
}

/// Zeros from the system, in large pages where it has them.
fn fresh(length: usize) -> Vec<f32> {
    let values = vec![0.0; length];
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = (values.as_ptr() as usize).next_multiple_of(PAGE);
        let end = (values.as_ptr() as usize + size_of_val(values.as_slice())) / PAGE * PAGE;
        if end > start {
            // SAFETY: the advice changes no contents, and the pages lie in the memory of `values`. That it may fail
            // is of no consequence.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    values
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
        let values = store.take(1000);
        let address = values.as_ptr();
        store.give(values);
        let again = store.take(900);
        assert_eq!((again.as_ptr(), again.len()), (address, 1000));
        assert_eq!((store.used, store.cached, store.most_used), (1000, 0, 1000));
        // Much too large for this one.
        store.give(again);
        assert_eq!(store.take(500).len(), 500);
    }

    #[test]
    fn little_more_is_kept_than_was_in_use() {
        let mut store = empty();
        for length in [1000, 2000, 4000, 700, 2000, 300] {
            let values = store.take(length);
            store.give(values);
            assert!(store.cached <= 5000, "{}", store.cached);
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
