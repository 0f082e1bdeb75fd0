//! Where the operations of a step are called from, and where their numbers lie.

use burn::tensor::Device;

/// Runs `work`, a whole step or batch; on flex on one of the threads that share the operations' work.
///
/// An operation that is called from there begins at once, and its caller works too. Called from elsewhere, each one wakes
/// those threads and sleeps until they are done, which for small batches costs more than the work.
pub fn on_workers<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    if device.clone().inner() == Device::flex() {
        return rayon::scope(|_| work());
    }
    let _ = device;
    work()
}

/// Whether what lies on `device` lies in the memory of the machine.
pub fn is_on_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if device.clone().inner() == Device::flex() {
        return true;
    }
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)]
    if device.clone().inner() == Device::ndarray() {
        return true;
    }
    let _ = device;
    false
}
