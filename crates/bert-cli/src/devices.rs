//! Devices by name.

use std::{
    env,
    io::{self, Write},
};

use burn::tensor::Device;

use crate::Failure;

/// The backends that were compiled in: what `--device` takes, and what it stands for.
const COMPILED: &[(&str, &str)] = &[
    #[cfg(feature = "cuda")]
    ("cuda", "an NVIDIA GPU; cuda:1 is the second"),
    #[cfg(feature = "metal")]
    ("metal", "an Apple GPU"),
    #[cfg(feature = "rocm")]
    ("rocm", "an AMD GPU; rocm:1 is the second"),
    #[cfg(feature = "vulkan")]
    ("vulkan", "a GPU through Vulkan (SPIR-V)"),
    #[cfg(feature = "webgpu")]
    ("webgpu", "a GPU through WebGPU (WGSL)"),
    #[cfg(feature = "wgpu")]
    ("wgpu", "a GPU through wgpu; wgpu:cpu is a software device"),
    #[cfg(feature = "tch")]
    ("tch", "the CPU, through LibTorch"),
    #[cfg(feature = "flex")]
    ("flex", "the CPU, in pure Rust"),
    #[cfg(feature = "ndarray")]
    ("ndarray", "the CPU, through ndarray (deprecated in Burn)"),
];

/// The device of this name, else that of the environment's `BURN_DEVICE`, else of the first backend that was compiled in
/// and has one here.
pub fn device(name: Option<&str>) -> Result<Device, Failure> {
    let environment = env::var("BURN_DEVICE").ok().filter(|name| !name.is_empty());
    let Some(name) = name.or(environment.as_deref()).or_else(default) else {
        return Err(Failure::Usage(
            "no backend was compiled in that has a device here: build with a feature such as flex"
                .to_owned(),
        ));
    };
    let (backend, index) = name.split_once(':').unwrap_or((name, ""));
    let known = COMPILED.iter().any(|(known, _)| *known == backend);
    known.then(|| open(backend, index)).flatten().ok_or_else(|| {
        let names: Vec<&str> = COMPILED.iter().map(|(name, _)| *name).collect();
        Failure::Usage(format!(
            "no device {name:?} in this build or on this machine: expected one of {}; see `bert devices`, or build with the \
             backend's cargo feature",
            names.join(", ")
        ))
    })
}

/// The first backend that has a device here.
fn default<'a>() -> Option<&'a str> {
    COMPILED.iter().map(|(name, _)| *name).find(|name| open(name, "").is_some())
}

/// Prints what `--device` takes.
pub fn run() -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let default = default();
    for (name, meaning) in COMPILED {
        let mark = if default == Some(*name) { " (default)" } else { "" };
        writeln!(out, "{name:8} {meaning}{mark}")?;
    }
    Ok(())
}

/// `None` where the backend has no such device.
fn open(backend: &str, index: &str) -> Option<Device> {
    #[cfg(any(feature = "cuda", feature = "rocm"))]
    let number = || if index.is_empty() { Some(0) } else { index.parse().ok() };
    #[cfg(feature = "wgpu")]
    if backend == "wgpu" {
        use burn::tensor::{DeviceKind, DeviceType};
        let kind = match index {
            "" => DeviceKind::DefaultDevice,
            "cpu" => DeviceKind::Cpu,
            _ => return None,
        };
        let device = Device::wgpu(kind);
        let found = Device::enumerate(DeviceType::Wgpu).into_vec();
        // A software device is slower than our CPU backend: it is taken where it is named, and only there.
        let software = Device::wgpu(DeviceKind::Cpu);
        let there = match index {
            "" => found.iter().any(|device| *device != software),
            _ => found.contains(&device),
        };
        return there.then_some(device);
    }
    match (backend, index) {
        #[cfg(feature = "flex")]
        ("flex", "") => Some(Device::flex()),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        ("ndarray", "") => Some(Device::ndarray()),
        #[cfg(feature = "cuda")]
        ("cuda", _) => number().map(Device::cuda),
        #[cfg(feature = "rocm")]
        ("rocm", _) => number().map(Device::rocm),
        #[cfg(feature = "vulkan")]
        ("vulkan", "") => Some(Device::vulkan(Default::default())),
        #[cfg(feature = "metal")]
        ("metal", "") => Some(Device::metal(Default::default())),
        #[cfg(feature = "webgpu")]
        ("webgpu", "") => Some(Device::webgpu(Default::default())),
        #[cfg(feature = "tch")]
        #[allow(deprecated)]
        ("tch", "") => Some(Device::libtorch()),
        _ => None,
    }
}
