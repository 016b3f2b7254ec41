//! Programs on GPUs, which here are interpreters.

use fulgurite_jit::{Result, Tensor};
use fulgurite_runtime::testing::with_fake_devices;
use fulgurite_runtime::{Device, jit, with_device};

#[test]
fn a_step() -> Result<()> {
    with_fake_devices(1, |fake| {
        let f = jit(|x: Tensor| (&x * &x).sum());
        let x = || Tensor::from_vec(&[3], vec![1.0f32, 2.0, 3.0]);
        let y = with_device(Device::Cuda(0), || f.call(x()?))??;
        assert_eq!(fake.counts(0).launches, 1);
        assert_eq!(y.item::<f32>()?, 14.0);
        Ok(())
    })
}
