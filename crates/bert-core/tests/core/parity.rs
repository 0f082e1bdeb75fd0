//! Values and gradients against PyTorch, on every device.

use bert_core::{BertConfig, EncoderInput, HiddenAct, Pooler, Tokenizer, set_parameters};
use bert_kernels::{linear, set_fast_kernels};
use burn::{
    module::Module,
    tensor::{Tensor, TensorData},
};

use crate::{
    batch, load,
    reference::{
        assert_close, assert_gradient, data_folder, devices, floats, folder, host, json, packed,
        values,
    },
    tiny, tiny_config,
};

/// Hidden states, pooled vectors, attention probabilities.
const TOLERANCE: f32 = 2e-5;

#[test]
fn hidden_states_of_every_layer() {
    let reference = values();
    for (name, device) in devices() {
        let states = tiny(&tiny_config(), &device).hidden_states(&batch(&reference, &device), None);
        let expected = reference["hidden_states"].as_array().unwrap();
        assert_eq!(states.len(), expected.len());
        for (layer, (state, expected)) in states.into_iter().zip(expected).enumerate() {
            let expected = packed(expected, &reference);
            assert_close(&format!("{name}, state {layer}"), &host(state), &expected, TOLERANCE);
        }
    }
}

#[test]
fn attention_probabilities() {
    let reference = values();
    let mask = reference["batch"]["attention_mask"].as_array().unwrap();
    for (name, device) in devices() {
        let (model, input) = (tiny(&tiny_config(), &device), batch(&reference, &device));
        let hidden = model.embeddings.forward(model.embeddings.words(&input), &input, None);
        let got = model.encoder.layer[0].attention.probabilities(hidden, &input.sequences);
        let [_, heads, length, _] = got.dims();
        let got = host(got);
        let expected = floats(&reference["attentions_layer0"]);
        assert_eq!(got.len(), expected.len());
        for (row, mask) in mask.iter().enumerate() {
            let tokens = floats(mask).iter().sum::<f32>() as usize;
            for head in 0..heads {
                for query in 0..tokens {
                    let start = ((row * heads + head) * length + query) * length;
                    let what = format!("{name}, row {row}, head {head}, query {query}");
                    let (got, expected) = (&got[start..], &expected[start..]);
                    assert_close(&what, &got[..tokens], &expected[..tokens], TOLERANCE);
                    assert!(got[tokens..length].iter().all(|p| *p == 0.0), "{what}: padding");
                }
            }
        }
    }
}

#[test]
fn pooler_output() {
    let reference = values();
    for (name, device) in devices() {
        let (config, input) = (tiny_config(), batch(&reference, &device));
        let checkpoint = bert_core::Checkpoint::open(folder().join("tiny-bert")).unwrap();
        let mut reader = checkpoint.reader();
        let pooler = set_parameters(Pooler::new(&config, &device), "pooler.", |name, shape| {
            reader.take(name, shape).map(Some)
        });
        let hidden = tiny(&config, &device).forward(&input, None);
        let pooled = pooler.unwrap().forward(hidden, &input.sequences);
        assert_close(name, &host(pooled), &floats(&reference["pooler_output"]), TOLERANCE);
    }
}

/// A linear map of the word embeddings, before positions, types and normalisation.
#[test]
fn task_embedding() {
    let reference = values();
    let size = tiny_config().hidden_size;
    let map = &reference["adaptive_pooling"];
    for (name, device) in devices() {
        let (model, input) = (tiny(&tiny_config(), &device), batch(&reference, &device));
        let weight = TensorData::new(floats(&map["linear_weight_out_in"]), [size, size]);
        let weight = Tensor::<2>::from_data(weight, &device).transpose();
        let bias = Tensor::from_data(floats(&map["linear_bias"]).as_slice(), &device);
        let words = linear(model.embeddings.words(&input), weight, Some(bias));
        let expected = &reference["task_embeddings"];
        let embedded = packed(&expected["embedded"], &reference);
        assert_close(name, &host(words.clone()), &embedded, TOLERANCE);
        let hidden = model.forward_words(words, &input, None);
        let expected = packed(&expected["last_hidden_state"], &reference);
        assert_close(name, &host(hidden), &expected, TOLERANCE);
    }
}

#[test]
fn other_activations() {
    let reference = values();
    let probe = &reference["activations"];
    for (name, device) in devices() {
        for (act, key) in [(HiddenAct::GeluNew, "gelu_new"), (HiddenAct::Relu, "relu")] {
            let device = device.clone().autodiff();
            let config = BertConfig { hidden_act: act, ..tiny_config() };
            let model = tiny(&config, &device);
            let hidden = model.forward(&batch(&reference, &device), None);
            let expected = packed(&probe[key], &reference);
            assert_close(&format!("{name}, {key}"), &host(hidden.clone()), &expected, TOLERANCE);

            let c = Tensor::<1>::from_data(floats(&probe["c"]).as_slice(), &device);
            let gradients = (hidden * c.unsqueeze()).sum().backward();
            let weight = model.encoder.layer[0].intermediate.dense.weight.val();
            let got = host(weight.grad(&gradients).unwrap().transpose());
            let expected = crate::reference::gradients(&format!("act_{key}"));
            assert_gradient(&format!("{name}, {key}"), &got, &expected["intermediate"].1);
        }
    }
}

/// Fast kernels and plain definitions give the same within rounding.
#[test]
fn plain_definitions_agree_with_fast_kernels() {
    let _switch = crate::SWITCH.write();
    let reference = values();
    for (name, device) in devices() {
        let (model, input) = (tiny(&tiny_config(), &device), batch(&reference, &device));
        let run = || host(model.forward(&input, Some(bert_core::pass_key(3, 1, 0, 0))));
        let fast = run();
        set_fast_kernels(false);
        let plain = run();
        set_fast_kernels(true);
        assert_close(name, &fast, &plain, TOLERANCE);
    }
}

/// The real model: token ids, and embeddings alone and in a batch.
#[test]
fn minilm_embeddings() {
    let folder = data_folder().join("models/all-MiniLM-L6-v2");
    if !folder.is_dir() {
        println!("skipped: no {} (BERT_TUNE_DATA)", folder.display());
        return;
    }
    let reference = json("minilm.json");
    let config = BertConfig::load(&folder).unwrap();
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let encode = |text: &str, max_length| tokenizer.encode(text, None, max_length).unwrap();
    for (name, device) in devices() {
        let model = load(&folder, &config, &device);
        let embed = |encodings: &[bert_core::Encoding]| {
            let input = EncoderInput::new(encodings, &device);
            let width = config.hidden_size;
            let hidden = host(model.forward(&input, None));
            let rows = input.sequences.ranges().map(|range| {
                let mut sum = vec![0.0; width];
                for token in range {
                    for (sum, h) in sum.iter_mut().zip(&hidden[token * width..]) {
                        *sum += h;
                    }
                }
                let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
                sum.into_iter().map(|v| v / norm).collect::<Vec<f32>>()
            });
            rows.collect::<Vec<_>>()
        };
        for row in reference["single"].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let encoding = encode(text, row["max_length"].as_u64().unwrap() as usize);
            let ids: Vec<i64> = encoding.input_ids.iter().map(|id| i64::from(*id)).collect();
            assert_eq!(ids, crate::reference::integers(&row["input_ids"]), "{text:?}");
            let expected = floats(&row["mean_pooled_normalised"]);
            let what = format!("{name}, alone, {text:?}");
            assert_close(&what, &embed(&[encoding])[0], &expected, 1e-5);
        }
        let batched = &reference["batched_max_length_64"];
        let texts = batched["texts"].as_array().unwrap();
        let encodings: Vec<_> = texts.iter().map(|t| encode(t.as_str().unwrap(), 64)).collect();
        let expected = batched["mean_pooled_normalised"].as_array().unwrap();
        for (row, (got, expected)) in embed(&encodings).iter().zip(expected).enumerate() {
            assert_close(&format!("{name}, batched, row {row}"), got, &floats(expected), 1e-5);
        }
    }
}

/// Each spelling of the same weights loads to the same model; half precision to the weights rounded to it.
#[test]
fn every_spelling_of_a_checkpoint_loads() {
    let reference = values();
    let variants = folder().join("tiny-bert-variants");
    let expected =
        packed(reference["hidden_states"].as_array().unwrap().last().unwrap(), &reference);
    let exact = [
        "legacy_prefix_gamma_beta.safetensors",
        "no_pooler.safetensors",
        "pytorch_model.bin",
        "model.safetensors.index.json",
    ];
    let (_, device) = devices().remove(0);
    let input = batch(&reference, &device);
    let hidden = |checkpoint: &bert_core::Checkpoint, round: &dyn Fn(f32) -> f32| {
        let mut reader = checkpoint.reader();
        let model = bert_core::Bert::new(&tiny_config(), &device);
        let model = set_parameters(model, "", |name, shape| {
            Ok(Some(reader.take(name, shape)?.into_iter().map(round).collect()))
        });
        host(model.unwrap().forward(&input, None))
    };
    for file in exact {
        let checkpoint = bert_core::Checkpoint::open_file(variants.join(file)).unwrap();
        let got = hidden(&checkpoint, &|value| value);
        assert_close(file, &got, &expected, TOLERANCE);
    }
    let full = bert_core::Checkpoint::open(folder().join("tiny-bert")).unwrap();
    let round_f16 = |v: f32| burn::tensor::f16::from_f32(v).to_f32();
    let round_bf16 = |v: f32| burn::tensor::bf16::from_f32(v).to_f32();
    let rounds: [(&str, &dyn Fn(f32) -> f32); 2] =
        [("f16.safetensors", &round_f16), ("bf16.safetensors", &round_bf16)];
    for (file, round) in rounds {
        let checkpoint = bert_core::Checkpoint::open_file(variants.join(file)).unwrap();
        let got = hidden(&checkpoint, &|value| value);
        let rounded = hidden(&full, round);
        assert_close(file, &got, &rounded, TOLERANCE);
        assert!(crate::reference::distance(&got, &expected) > TOLERANCE, "{file} was not rounded");
    }
}

/// What is saved is what was loaded, name for name.
#[test]
fn saved_parameters_are_the_loaded_ones() {
    let (_, device) = devices().remove(0);
    let model = tiny(&tiny_config(), &device);
    let checkpoint = bert_core::Checkpoint::open(folder().join("tiny-bert")).unwrap();
    let mut reader = checkpoint.reader();
    let tensors = bert_core::named_parameters(&model, "");
    assert_eq!(tensors.iter().map(|t| t.values.len()).sum::<usize>(), model.num_params());
    for tensor in tensors {
        let loaded = reader.take(&tensor.name, &tensor.shape).unwrap();
        assert_eq!(tensor.values, loaded, "{}", tensor.name);
    }
}
