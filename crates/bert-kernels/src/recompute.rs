//! A part of a model that keeps its input alone and runs again on the way back, for less memory.

use std::{array, fmt, marker::PhantomData, sync::Arc};

use burn::{
    backend::{
        Autodiff, Backend, DispatchKindConversion, DispatchTensor,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, NodeGuard, Ops, OpsKind},
        },
        tensor::FloatTensor,
    },
    module::{Module, ModuleVisitor, Param},
    tensor::{GradientCheckpointingStrategy, Tensor},
};

/// The most parameters that gradients are taken of; Burn asks for the number of an operation's inputs at compile time.
const MOST_PARAMETERS: usize = 31;

/// `forward(module, x)`, of which `x` alone is kept for the gradients: when they are asked for, `forward` runs again.
///
/// Values and gradients are those of `forward` itself, as long as it depends on nothing but its arguments and what it
/// owns. It runs as it is without autodiff, with Burn's own gradient checkpointing, and on a device that this crate has no
/// feature for.
///
/// # Panics
/// When more than 31 parameters of `module` are trained.
///
/// # Source
/// Chen et al.: "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174), section 3.
pub fn recompute<M, F>(module: &M, x: Tensor<2>, forward: F) -> Tensor<2>
where
    M: Module + Sync + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Send + Sync + 'static,
{
    if x.gradient_checkpointing_strategy() != Some(GradientCheckpointingStrategy::Disabled) {
        return forward(module, x);
    }
    let inner = x.clone().inner();
    let segment = Arc::new(Segment { module: module.valid(), x: inner, forward });
    let output = None;
    #[cfg(feature = "flex")]
    let output = output.or_else(|| record::<burn::backend::Flex, _, _>(module, &x, &segment));
    #[cfg(any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "webgpu",
        feature = "cuda",
        feature = "rocm"
    ))]
    let output = output.or_else(|| record::<burn::backend::Cube, _, _>(module, &x, &segment));
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)]
    let output = output.or_else(|| record::<burn::backend::NdArray, _, _>(module, &x, &segment));
    #[cfg(feature = "tch")]
    #[allow(deprecated)]
    let output = output.or_else(|| record::<burn::backend::LibTorch, _, _>(module, &x, &segment));
    output.unwrap_or_else(|| (segment.forward)(module, x))
}

/// What runs again, without autodiff.
struct Segment<M, F> {
    module: M,
    x: Tensor<2>,
    forward: F,
}

impl<M, F> fmt::Debug for Segment<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("x", &self.x.dims()).finish_non_exhaustive()
    }
}

/// Runs the segment without autodiff and puts its output into the graph of its inputs; nothing where `x` is not on `B`.
fn record<B: Backend, M, F>(
    module: &M,
    x: &Tensor<2>,
    segment: &Arc<Segment<M, F>>,
) -> Option<Tensor<2>>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
    M: Module + Sync + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Send + Sync + 'static,
{
    let x = x.clone().try_into_primitive::<Autodiff<B>>().ok()?;
    let mut trained = Trained { nodes: vec![], backend: PhantomData::<B> };
    module.visit(&mut trained);
    let count = trained.nodes.len();
    assert!(count <= MOST_PARAMETERS, "recompute: at most {MOST_PARAMETERS} trained, got {count}");
    let output = (segment.forward)(&segment.module, segment.x.clone());
    let output = primitive::<B, 2>(output);
    // A node that wants no gradient takes each place that is left.
    let unused = FloatTensor::<Autodiff<B>>::new(output.clone());
    let mut trained = trained.nodes.into_iter();
    let nodes = array::from_fn(|index| match index {
        0 => x.node(),
        _ => trained.next().unwrap_or_else(|| unused.node()),
    });
    let again = Again(PhantomData::<fn() -> (M, F)>);
    let output = match again.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(segment.clone(), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<B>>(output))
}

/// A tensor as its backend has it.
fn primitive<B: Backend, const D: usize>(tensor: Tensor<D>) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    tensor.try_into_primitive::<B>().expect("float, on its backend") // INVARIANT: its module and input are on `B`.
}

/// The nodes of the parameters that are trained.
struct Trained<B> {
    nodes: Vec<NodeGuard>,
    backend: PhantomData<B>,
}

impl<B: Backend> ModuleVisitor for Trained<B>
where
    DispatchTensor: DispatchKindConversion<Autodiff<B>>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.nodes.push(primitive::<Autodiff<B>, D>(param.val()).node());
        }
    }
}

struct Again<M, F>(PhantomData<fn() -> (M, F)>);

impl<M, F> fmt::Debug for Again<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

impl<B: Backend, M, F> Backward<B, { 1 + MOST_PARAMETERS }> for Again<M, F>
where
    DispatchTensor: DispatchKindConversion<B>,
    M: Module + Sync + 'static,
    F: Fn(&M, Tensor<2>) -> Tensor<2> + Send + Sync + 'static,
{
    type State = Arc<Segment<M, F>>;

    fn backward(
        self,
        ops: Ops<Self::State, { 1 + MOST_PARAMETERS }>,
        grads: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let grad = Tensor::<2>::from_primitive::<B>(grads.consume::<B>(&ops.node));
        let [node_x, trained @ ..] = ops.parents;
        // Leaves of a graph of its own: the one whose way back this is on is locked.
        let module = ops.state.module.clone().train();
        let x = Tensor::from_inner(ops.state.x.clone()).set_require_grad(node_x.is_some());
        let again = (ops.state.forward)(&module, x.clone());
        let again = (again * Tensor::from_inner(grad)).sum().backward();
        if let (Some(node), Some(gradient)) = (node_x, x.grad(&again)) {
            grads.register::<B>(node.id, primitive::<B, 2>(gradient));
        }
        let ids = trained.into_iter().flatten().map(|node| node.id);
        let mut found = Found::<B> { again: &again, found: vec![] };
        module.visit(&mut found);
        for (id, gradient) in ids.zip(found.found) {
            if let Some(gradient) = gradient {
                grads.register::<B>(id, gradient);
            }
        }
    }
}

/// The gradients of the parameters that are trained; none of one that the output does not depend on.
struct Found<'a, B: Backend> {
    again: &'a burn::tensor::Gradients,
    found: Vec<Option<FloatTensor<B>>>,
}

impl<B: Backend> ModuleVisitor for Found<'_, B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let gradient = param.val().grad(self.again);
            self.found.push(gradient.map(primitive::<B, D>));
        }
    }
}
