//! Arrays on a device: read where they are, moved to where a program runs, and lost by no error. The device here is one
//! whose memory is a vector; it counts reads and can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use fulgurite::compiler::array::DeviceBuffer;
use fulgurite::prelude::*;
use fulgurite::trainer::checkpoint::{load, save};
use fulgurite::{Array, Device, Element, TensorType, scan};

use crate::common::folder;

#[derive(Clone, Default)]
struct Fake {
    reads: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
    /// It says so when it is asked for the first time, and that it is the host from then on.
    lies: bool,
}

struct FakeBuffer {
    device: Fake,
    bytes: Vec<u8>,
    asked: AtomicBool,
}

impl DeviceBuffer for FakeBuffer {
    fn device(&self) -> Device {
        let again = self.asked.swap(true, Relaxed);
        if self.device.lies && again { Device::Cpu } else { Device::Cuda(3) }
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, to: &mut [u8]) -> Result<()> {
        self.device.reads.fetch_add(1, Relaxed);
        if self.device.fails.load(Relaxed) {
            return Err(Error::new("the cable is out"));
        }
        // A driver may use what it likes.
        drop(Tensor::scalar(1.0f32) + 1.0);
        to.copy_from_slice(&self.bytes[..to.len()]);
        Ok(())
    }
}

impl Fake {
    fn array_of(&self, ty: TensorType, bytes: Vec<u8>) -> Result<Array> {
        Array::on_device(ty, Box::new(FakeBuffer { device: self.clone(), bytes, asked: AtomicBool::new(false) }))
    }

    /// The array, moved to the device.
    fn put(&self, array: &Array) -> Result<Array> {
        self.array_of(array.ty().clone(), array.bytes()?.to_vec())
    }

    fn tensor<T: Element>(&self, shape: &[usize], data: Vec<T>) -> Result<Tensor> {
        Ok(self.put(&Array::from_vec(shape, data)?)?.into())
    }

    fn reads(&self) -> usize {
        self.reads.load(Relaxed)
    }
}

#[test]
fn an_array_is_read_where_it_is() -> Result<()> {
    let shapes: [&[usize]; 6] = [&[], &[0], &[3], &[2, 0, 4], &[2, 3], &[1, 2, 1, 1, 3, 1, 1, 2]];
    for shape in shapes {
        let fake = Fake::default();
        let data: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 - 0.5).collect();
        let host = Array::from_vec(shape, data.clone())?;
        let there = fake.put(&host)?;
        assert_eq!((there.device(), host.device()), (Device::Cuda(3), Device::Cpu));
        assert_eq!(there.ty(), host.ty());
        assert_eq!(fake.reads(), 0, "nothing is copied before it is read");
        assert_eq!(there.as_slice::<f32>()?, data);
        assert_eq!(
            (there.bytes()?, there.to_bits()?, there.to_f64_vec()?),
            (host.bytes()?, host.to_bits()?, host.to_f64_vec()?)
        );
        assert_eq!(there.view::<f32>()?, host.view::<f32>()?);
        assert_eq!(there, host);
        assert_eq!(there.to_string(), host.to_string());
        assert_eq!(there.reshaped(TensorType::new(DType::F32, &[data.len()])).as_slice::<f32>()?, data);
        assert_eq!(fake.reads(), 1, "the copy is kept");
        let back = there.to_host()?;
        assert_eq!((back.device(), &back), (Device::Cpu, &host));
        assert_eq!(there.into_ndarray::<f32>()?, host.into_ndarray::<f32>()?);
        assert_eq!(fake.reads(), 1);
    }
    Ok(())
}

#[test]
fn foreign_memory_is_not_trusted() -> Result<()> {
    let fake = Fake::default();
    let mask = fake.array_of(TensorType::new(DType::Bool, &[3]), vec![0, 1, 255])?;
    assert_eq!(mask.as_slice::<bool>()?, [false, true, true]);
    // A larger buffer has what the array needs; a smaller one does not.
    assert_eq!(fake.array_of(TensorType::new(DType::U32, &[1]), vec![1; 12])?.as_slice::<u32>()?, [0x0101_0101]);
    let small = fake.array_of(TensorType::new(DType::U32, &[2]), vec![1; 7]).unwrap_err();
    assert_eq!(small.message(), "array: a buffer of 7 bytes on cuda:3 is too small for u32[2]");
    assert!(fake.array_of(TensorType::new(DType::U32, &[usize::MAX, 0]), vec![]).is_err());
    let mut there = fake.put(&Array::scalar(1.0f32))?;
    let ty = there.ty().clone();
    assert!(!there.is_only(&ty) && !there.refill(&ty, |_| panic!("memory of a device is not written from here")));
    assert!(there.as_slice::<i32>().is_err());
    assert!(there.clone().into_ndarray::<i32>().is_err());

    // What a device says of itself later changes nothing; one that says that it is the host is no device.
    let liar = Fake { lies: true, ..Fake::default() };
    let x = liar.tensor(&[3], vec![1.0f32, 2.0, 3.0])?;
    assert_eq!(jit(|x: Tensor| x.sum()).call(x.clone())?.item::<f32>()?, 6.0);
    assert_eq!(jit(|x: Tensor| x + 1.0).call(x)?.to_vec::<f32>()?, [2.0, 3.0, 4.0]);
    let bytes = FakeBuffer { device: liar, bytes: vec![0; 4], asked: AtomicBool::new(true) };
    let host = Array::on_device(TensorType::new(DType::F32, &[1]), Box::new(bytes)).unwrap_err();
    assert_eq!(host.message(), "array: the memory of f32[1] is on cpu, where arrays have buffers");
    Ok(())
}

#[test]
fn arguments_are_moved_to_where_a_program_runs() -> Result<()> {
    let fake = Fake::default();
    let step = Jit::with_borrowed("step", |w: Tensor, x: Tensor| (&w - &x * 0.5, (&w * &x).sum()));
    let (w, x) = (vec![1.0f32, 2.0, 3.0], vec![4.0f32, 5.0, 6.0]);
    for (w_there, x_there) in [(false, false), (true, false), (false, true), (true, true)] {
        let tensor = |there: bool, data: &[f32]| match there {
            true => fake.tensor(&[3], data.to_vec()),
            false => Tensor::from_vec(&[3], data.to_vec()),
        };
        let (given, seen) = (tensor(w_there, &w)?, tensor(x_there, &x)?);
        let (next, loss) = step.call_with(given.clone(), seen.clone())?;
        assert_eq!((next.to_vec::<f32>()?, loss.item::<f32>()?), (vec![-1.0, -0.5, 0.0], 32.0));
        assert_eq!((given.to_vec::<f32>()?, seen.to_vec::<f32>()?), (w.clone(), x.clone()));
        // Given away, with no other handle.
        assert_eq!(step.call_with(given, seen)?.0.to_vec::<f32>()?, [-1.0, -0.5, 0.0]);
    }
    assert_eq!(step.traces(), 1, "where an argument comes from is not in the signature");

    let mut bound = step.bind(fake.tensor(&[3], w.clone())?);
    for _ in 0..3 {
        bound.call(fake.tensor(&[3], x.clone())?)?;
    }
    assert_eq!(bound.state().to_vec::<f32>()?, [-5.0, -5.5, -6.0]);
    assert_eq!(bound.state().array()?.device(), Device::Cpu);

    // Ops outside of a trace, and results that are arguments.
    let there = fake.tensor(&[3], w.clone())?;
    assert_eq!((&there + &there).to_vec::<f32>()?, [2.0, 4.0, 6.0]);
    assert_eq!(jit(|x: Tensor| x).call(there)?.to_vec::<f32>()?, w);
    Ok(())
}

#[test]
fn captured_arrays_become_constants() -> Result<()> {
    let fake = Fake::default();
    let (scale, table) = (fake.tensor(&[], vec![2.0f32])?, fake.tensor(&[2], vec![10.0f32, 20.0])?);
    let f = jit(move |x: Tensor| (&x * &scale + &table) * &table);
    let x = || Tensor::from_vec(&[2], vec![1.0f32, 2.0]);
    assert_eq!(f.call(x()?)?.to_vec::<f32>()?, [120.0, 480.0]);
    let reads = fake.reads();
    assert_eq!(reads, 2, "each is read once");
    f.call(x()?)?;
    assert_eq!(fake.reads(), reads);

    // Eager transformations trace at every call: the constant is the same memory each time, so the program is found.
    let large = fake.tensor(&[1000], vec![1.0f32; 1000])?;
    let slope = || grad(|x: &Tensor| (x * &large).sum())(&Tensor::ones(&[1000]));
    assert_eq!(slope().to_vec::<f32>()?, [1.0; 1000]);
    let reads = fake.reads();
    assert_eq!(slope().to_vec::<f32>()?, [1.0; 1000]);
    assert_eq!(fake.reads(), reads);

    // In a nested trace.
    let step = fake.tensor(&[2], vec![1.0f32, 2.0])?;
    let loops = jit(move |x: Tensor| {
        let (sum, ()) = scan(|sum: Tensor, x: Tensor| (sum + &x * &step, ()), x, Tensor::ones(&[3, 2]));
        sum + &step
    });
    assert_eq!(loops.call(x()?)?.to_vec::<f32>()?, [5.0, 10.0]);
    Ok(())
}

#[test]
fn datasets_and_checkpoints_take_them() -> Result<()> {
    let fake = Fake::default();
    let rows = fake.tensor(&[4, 2], (0..8).map(|i| i as f32).collect())?;
    let loader = DataLoader::new(ArrayDataset::new(rows.clone())?).batch_size(2);
    let batches: Vec<Vec<f32>> = loader.iter()?.map(|batch| batch?.0.to_vec()).collect::<Result<_>>()?;
    assert_eq!(batches, [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]);
    let path = folder("devices").join("rows.safetensors");
    save(&path, &rows)?;
    assert_eq!(load(&path, &Tensor::zeros(&[4, 2]))?.to_vec::<f32>()?, rows.to_vec::<f32>()?);
    Ok(())
}

#[test]
fn a_device_that_fails_loses_nothing() -> Result<()> {
    let fake = Fake::default();
    fake.fails.store(true, Relaxed);
    let there = fake.tensor(&[2], vec![1.0f32, 2.0])?;
    let expected = "reading f32[2] from cuda:3: the cable is out";
    let fails = |what: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} has no error"));
        assert!(error.to_string().contains(expected), "{what}: {error}");
    };
    let array = there.array()?;
    fails("bytes", array.bytes().err());
    fails("to_bits", array.to_bits().err());
    fails("to_f64_vec", array.to_f64_vec().err());
    fails("as_slice", array.as_slice::<f32>().err());
    fails("view", array.view::<f32>().err());
    fails("to_host", array.to_host().err());
    fails("into_ndarray", array.clone().into_ndarray::<f32>().err());
    fails("to_vec", there.to_vec::<f32>().err());
    assert!(there.to_string().contains(expected), "{there}");
    assert!(array == &array.clone() && array != &Array::from_vec(&[2], vec![1.0f32, 2.0])?);
    fails("a call", jit(|x: Tensor| x + 1.0).call(there.clone()).err());
    fails("an op", (&there + 1.0).to_vec::<f32>().err());
    let captured = there.clone();
    fails("a constant", jit(move |x: Tensor| x + &captured).call(Tensor::scalar(1.0f32)).err());
    let batch = DataLoader::new(ArrayDataset::new(there.clone())?).batch_size(2).iter()?.next().expect("a batch");
    fails("a dataset", batch.err());
    let hidden = there.clone();
    let or_seven = jit(move |x: Tensor| x * hidden.to_vec::<f32>().map_or(7.0, |x| x[0]));
    fails("a read in a trace", or_seven.call(Tensor::scalar(1.0f32)).err());
    fails("a checkpoint", save(folder("devices-fail").join("there"), &there).err());

    let mut sum = Jit::with_borrowed("sum", |sum: Tensor, x: Tensor| (sum + &x, x)).bind(Tensor::scalar(1.0f32));
    for fails in [true, false, true, false] {
        fake.fails.store(fails, Relaxed);
        assert_eq!(sum.call(fake.tensor(&[], vec![5.0f32])?).is_err(), fails);
    }
    assert_eq!(sum.into_state().item::<f32>()?, 11.0);
    assert_eq!(there.to_vec::<f32>()?, [1.0, 2.0], "what it has not read before it reads now");
    assert_eq!(or_seven.call(Tensor::scalar(3.0f32))?.item::<f32>()?, 3.0, "a failure is not compiled");
    // What has been read survives the device.
    fake.fails.store(true, Relaxed);
    let path = folder("devices-lost").join("there.safetensors");
    save(&path, &there)?;
    assert_eq!((&there + 1.0).to_vec::<f32>()?, [2.0, 3.0]);
    assert_eq!(load(&path, &there)?.to_vec::<f32>()?, [1.0, 2.0]);
    assert_eq!(there.into_ndarray::<f32>()?.as_slice(), Some(&[1.0, 2.0][..]));
    Ok(())
}
