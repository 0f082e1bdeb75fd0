//! The devices that tests run on.

#![allow(dead_code)] // INVARIANT: each crate's tests use their part of it.

use burn::tensor::Device;

/// The CPU backends that were compiled in, by name: fast enough to train on.
pub fn cpu_devices() -> Vec<(&'static str, Device)> {
    vec![
        #[cfg(feature = "flex")]
        ("flex", Device::flex()),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        ("ndarray", Device::ndarray()),
    ]
}

/// Every device that must give the same values: the CPU backends, and wgpu on a software device where there is one.
pub fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = cpu_devices();
    #[cfg(feature = "wgpu")]
    devices.extend(software_device().map(|device| ("wgpu", device)));
    devices
}

/// Mesa's software device for Vulkan, looked for once.
///
/// Its manifest is asked for before wgpu is: without Vulkan wgpu turns to OpenGL, which can panic where there is no
/// display. A GPU is passed over.
#[cfg(feature = "wgpu")]
fn software_device() -> Option<Device> {
    use std::{
        fs::read_dir,
        io::{Write, stderr},
        sync::OnceLock,
    };

    use burn::tensor::{DeviceKind, DeviceType};

    static FOUND: OnceLock<Option<Device>> = OnceLock::new();
    let find = || {
        let manifests = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
        let mut manifests = manifests.into_iter().flat_map(read_dir).flatten().flatten();
        let installed =
            manifests.any(|file| file.file_name().to_string_lossy().starts_with("lvp_"));
        let device = Device::wgpu(DeviceKind::Cpu);
        if installed && Device::enumerate(DeviceType::Wgpu).into_vec().contains(&device) {
            return Some(device);
        }
        // Not `eprintln`, which tests capture.
        let _ = writeln!(stderr(), "wgpu is skipped: no lavapipe (Debian: mesa-vulkan-drivers)");
        None
    };
    FOUND.get_or_init(find).clone()
}
