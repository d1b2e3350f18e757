//! Files that PyTorch wrote: every tensor by CRC-32, foreign objects as data, and what is refused.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use torch_files::{Dtype, Error, Format, Saved, TorchFile, save, strip_prefix};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(data("expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().clone()
}

#[test]
fn every_tensor_of_every_file_has_its_bytes() {
    let mut seen = 0;
    for (name, tensors) in expected() {
        let file = TorchFile::open(data(&name)).unwrap();
        let zip = name.contains("_zip") || name.starts_with("zip");
        assert_eq!(file.format() == Format::Zip, zip, "{name}");
        let found = file.tensors().unwrap();
        let tensors = tensors.as_object().unwrap();
        let names: Vec<&String> = found.iter().map(|(n, _)| n).collect();
        assert_eq!(found.len(), tensors.len(), "{name}: {names:?}");
        for (key, info) in found {
            let expected = &tensors[&key];
            assert_eq!(info.dtype.name(), expected["dtype"].as_str().unwrap(), "{name}: {key}");
            let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
            assert_eq!(info.shape, shape, "{name}: {key}");
            let crc = crc32fast::hash(&file.bytes(&info).unwrap());
            assert_eq!(u64::from(crc), expected["crc32"].as_u64().unwrap(), "{name}: {key}");
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn views_of_one_storage_share_it() {
    let file = TorchFile::open(data("zip_protocol2.pth")).unwrap();
    let tensors: std::collections::HashMap<_, _> = file.tensors().unwrap().into_iter().collect();
    assert_eq!(tensors["view"].storage, tensors["overlapping"].storage);
    assert_eq!((tensors["view"].offset, tensors["overlapping"].offset), (2, 6));
    assert!(!tensors["transposed"].is_contiguous());
    assert_eq!(tensors["expanded"].strides, [0, 0]);
}

#[test]
fn types_that_candle_lacks_are_widened_or_named() {
    for name in ["dtypes_zip.pth", "dtypes_legacy.pth"] {
        let file = TorchFile::open(data(name)).unwrap();
        for (key, info) in file.tensors().unwrap() {
            let tensor = file.tensor(&info, &Device::Cpu);
            let Some(dtype) = info.dtype.candle() else {
                let message = tensor.unwrap_err().to_string();
                assert!(message.contains(name) && message.contains(info.dtype.name()), "{message}");
                continue;
            };
            let tensor = tensor.unwrap();
            assert_eq!(tensor.dtype(), dtype, "{key}");
            let values = tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            let expected = match info.dtype {
                Dtype::Int8 => [-128.0, -1.0, 0.0, 127.0],
                Dtype::Bool => [0.0, 1.0, 1.0, 1.0],
                Dtype::Float8E4m3fn => [0.0, 1.0, 2.0, 96.0],
                Dtype::Float8E5m2 => [0.0, 1.0, 2.0, 96.0],
                _ => [0.0, 1.0, 2.0, 100.0],
            };
            assert_eq!(values, expected, "{key}");
        }
    }
}

#[test]
fn foreign_objects_are_data() {
    for name in ["checkpoint_zip.pth", "checkpoint_legacy.pth"] {
        let file = TorchFile::open(data(name)).unwrap();
        let root = file.root();
        let get = |key: &str| root.get(key).unwrap();
        assert_eq!(get("epoch").as_i64(), Some(5));
        assert_eq!(get("best").as_f64(), Some(0.75));
        assert_eq!(get("half").as_f64(), Some(0.5));
        assert_eq!(get("seen").as_i64(), Some(-3));
        assert_eq!(get("flag").as_bool(), Some(true));
        assert!(get("nothing").is_none());
        let args = get("args");
        assert_eq!(args.class(), Some("argparse.Namespace"));
        assert_eq!(args.get("lr").unwrap().as_f64(), Some(5e-5));
        let deep = args.get("nested").unwrap().get("deep").unwrap();
        assert_eq!(deep.elements().unwrap().filter_map(|n| n.as_i64()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            get("scheduler object").describe(),
            "the python class torch.optim.lr_scheduler.StepLR"
        );
        assert_eq!(get("lr_scheduler").get("step_size").unwrap().as_i64(), Some(3));
        assert_eq!(get("bytes").bytes().as_deref(), Some(&[0u8, 255][..]));
        assert_eq!(get("dtype").describe(), "the python class torch.float16");
        assert_eq!(get("large").describe(), "an integer beyond 64 bits");
        let sizes = get("shape").elements().unwrap().filter_map(|n| n.as_size());
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 3]);
        let mut model = file.tensors_in(get("model")).unwrap();
        assert!(strip_prefix(&mut model, "module."));
        assert_eq!(model[0].0, "weight");
        assert!(!strip_prefix(&mut model, "module."));
    }
}

#[test]
fn what_is_written_is_read_and_the_old_file_survives_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    let device = &Device::Cpu;
    let tensor = |dtype| {
        Tensor::arange(0f32, 6.0, device).unwrap().reshape((2, 3)).unwrap().to_dtype(dtype).unwrap()
    };
    let types = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::U8,
        DType::I16,
        DType::I32,
        DType::I64,
    ];
    let mut entries: Vec<(String, Saved)> =
        types.iter().map(|&t| (format!("{t:?}"), Saved::Tensor(tensor(t).t().unwrap()))).collect();
    entries.push(("scalar".into(), Saved::Tensor(Tensor::new(7i64, device).unwrap())));
    entries
        .push(("empty".into(), Saved::Tensor(Tensor::zeros((0, 3), DType::F32, device).unwrap())));
    entries.push(("epoch".into(), Saved::Int(-5_000_000_000)));
    entries.push((
        "list".into(),
        Saved::List(vec![
            Saved::Bool(true),
            Saved::None,
            Saved::Float(0.5),
            Saved::Str("é".into()),
        ]),
    ));
    save(&path, &Saved::Dict(entries)).unwrap();
    let file = TorchFile::open(&path).unwrap();
    let found = file.tensors().unwrap();
    assert_eq!(found.len(), types.len() + 2);
    for (name, info) in found {
        let ours = file.tensor(&info, device).unwrap();
        match name.as_str() {
            "scalar" => assert_eq!(ours.to_scalar::<i64>().unwrap(), 7),
            "empty" => assert_eq!(ours.dims(), [0, 3]),
            _ => {
                let values = ours.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!(values, [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]], "{name}");
            }
        }
    }
    assert_eq!(file.root().get("epoch").unwrap().as_i64(), Some(-5_000_000_000));
    let list = file.root().get("list").unwrap().elements().unwrap().map(|n| n.describe());
    assert_eq!(list.collect::<Vec<_>>(), ["a bool", "None", "a float", "a string"]);

    let before = std::fs::read(&path).unwrap();
    let none = Saved::Tensor(Tensor::zeros(3, DType::U32, device).unwrap());
    assert!(matches!(save(&path, &none), Err(Error::Unsupported { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    for (bytes, words) in [
        (&b""[..], "torch.save"),
        (b"hello", "torch.save"),
        (b"PK\x03\x04", "end record"),
        (b"\x80\x02}q\x00.", "magic number"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = TorchFile::open(&path).unwrap_err().to_string();
        assert!(message.contains("x.pth") && message.contains(words), "{message}");
    }
    assert!(matches!(TorchFile::open(dir.path().join("none")), Err(Error::Read { .. })));
    assert!(matches!(TorchFile::open(dir.path()), Err(Error::Unsupported { .. })));
}
