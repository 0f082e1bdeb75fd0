//! The switch between fast kernels and plain definitions.

use std::sync::atomic::{AtomicBool, Ordering};

static FAST: AtomicBool = AtomicBool::new(true);

/// Turns the fast kernels on or off for the whole process; they are on at the start.
///
/// Off, every operation runs its plain definition. Results agree within rounding; speed does not.
pub fn set_fast_kernels(on: bool) {
    FAST.store(on, Ordering::Relaxed);
}

/// Whether fast kernels are on.
#[cfg(feature = "flex")]
pub(crate) fn is_fast() -> bool {
    FAST.load(Ordering::Relaxed)
}
