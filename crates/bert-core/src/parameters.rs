//! Parameters of a module by the names that Hugging Face's checkpoints give them: set, started at random, collected.

use bert_kernels::random::{Purpose, Stream};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorData},
};

use crate::{checkpoint::NamedTensor, error::Result};

/// Sets every parameter of `module` from `values(name, shape)`, and stops at the first error; where that is `None`, the
/// parameter stays as it is.
///
/// Names begin with `prefix`, for example `bert.` or nothing. Shapes and values are those of the checkpoint: linear
/// weights are `[out, in]` there and are transposed on their way.
///
/// # Errors
/// What `values` returns.
///
/// # Panics
/// When `values` returns another number of values than the shape holds.
pub fn set_parameters<M: Module>(
    module: M,
    prefix: &str,
    values: impl FnMut(&str, &[usize]) -> Result<Option<Vec<f32>>>,
) -> Result<M> {
    let mut setter = Setter { path: Path::new(prefix), values, failure: None };
    let module = module.map(&mut setter);
    match setter.failure {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Starts every parameter of `module` at random: weights normal with deviation `std`, biases 0, norms 1.
///
/// A value depends on the seed and the parameter's name alone, whatever the backend.
///
/// # Source
/// Devlin et al. (arXiv:1810.04805) start from a (truncated) normal with 0.02; Hugging Face's `initializer_range`.
pub fn initialise<M: Module>(module: M, prefix: &str, seed: u64, std: f64) -> M {
    let mut setter = Setter {
        path: Path::new(prefix),
        values: |name: &str, shape: &[usize]| {
            let count = shape.iter().product();
            Ok(Some(if name.ends_with(".bias") {
                vec![0.0; count]
            } else if name.ends_with("LayerNorm.weight") {
                vec![1.0; count]
            } else {
                let mut stream = Stream::new(seed, Purpose::Init, fnv1a(name));
                (0..count).map(|_| stream.normal() * std as f32).collect()
            }))
        },
        failure: None,
    };
    module.map(&mut setter)
}

/// The name and the shape in a checkpoint of every parameter of `module`, without starting those that have no value yet.
pub fn parameter_shapes<M: Module>(module: &M, prefix: &str) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Shapes { path: Path::new(prefix), shapes: vec![] };
    module.visit(&mut shapes);
    shapes.shapes
}

/// Every parameter of `module` under Hugging Face's name, which begins with `prefix`, as a checkpoint holds it.
pub fn named_parameters<M: Module>(module: &M, prefix: &str) -> Vec<NamedTensor> {
    let mut collector = Collector { path: Path::new(prefix), tensors: vec![] };
    module.visit(&mut collector);
    collector.tensors
}

/// Where a traversal is: the fields entered, each with the type it is a field of.
struct Path {
    prefix: String,
    fields: Vec<(String, String)>,
}

impl Path {
    fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), fields: vec![] }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.fields.push((name.to_owned(), container.to_owned()));
    }

    /// Hugging Face's name of the parameter.
    fn name(&self) -> String {
        let fields = self.fields.iter().filter(|(_, container)| !container.starts_with("Enum:"));
        let names = fields.map(|(name, container)| match (name.as_str(), container.as_str()) {
            ("self_attention", _) => "self",
            ("layer_norm", _) => "LayerNorm",
            ("gamma", "Struct:LayerNorm") => "weight",
            ("beta", "Struct:LayerNorm") => "bias",
            (other, _) => other,
        });
        self.prefix.clone() + &names.collect::<Vec<_>>().join(".")
    }

    /// Burn keeps linear weights `[in, out]`, PyTorch `[out, in]`.
    fn is_transposed(&self) -> bool {
        let maps = ["Struct:Linear", "Struct:Dense"];
        matches!(self.fields.last(), Some((name, container)) if name == "weight" && maps.contains(&container.as_str()))
    }

    /// The shape in a checkpoint of the parameter of this shape.
    fn stored(&self, mut shape: Vec<usize>) -> Vec<usize> {
        if self.is_transposed() {
            shape.swap(0, 1);
        }
        shape
    }
}

struct Setter<F> {
    path: Path,
    values: F,
    failure: Option<crate::Error>,
}

impl<F: FnMut(&str, &[usize]) -> Result<Option<Vec<f32>>>> ModuleMapper for Setter<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.fields.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failure.is_some() {
            return param;
        }
        // The shape is asked for without starting the parameter: its first values would be drawn for nothing.
        let shape = param.lazy_shape().to_vec();
        let transposed = self.path.is_transposed();
        let stored = self.path.stored(shape.clone());
        match (self.values)(&self.path.name(), &stored) {
            Ok(None) => param,
            Ok(Some(values)) => {
                let values = match stored[..] {
                    [rows, columns] if transposed => transpose(&values, rows, columns),
                    _ => values,
                };
                let device = param.lazy_device();
                Param::from_data(TensorData::new(values, shape), &device)
            }
            Err(error) => {
                self.failure = Some(error);
                param
            }
        }
    }
}

struct Shapes {
    path: Path,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.fields.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = self.path.stored(param.lazy_shape().to_vec());
        self.shapes.push((self.path.name(), shape));
    }
}

struct Collector {
    path: Path,
    tensors: Vec<NamedTensor>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.fields.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut shape = param.shape().to_vec();
        let data = param.val().into_data();
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        if self.path.is_transposed() {
            values = transpose(&values, shape[0], shape[1]);
            shape.swap(0, 1);
        }
        self.tensors.push(NamedTensor { name: self.path.name(), shape, values });
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    // Sixteen rows at a time: one cache line of each result row is filled before it is left.
    const BLOCK: usize = 16;
    let mut transposed = vec![0.0; values.len()];
    for start in (0..rows).step_by(BLOCK) {
        let block = start..rows.min(start + BLOCK);
        for column in 0..columns {
            for row in block.clone() {
                transposed[column * rows + row] = values[row * columns + column];
            }
        }
    }
    transposed
}

/// FNV-1a, 64 bits: a fixed number for each name, the same on every machine.
pub fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
