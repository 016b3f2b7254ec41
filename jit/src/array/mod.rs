//! Arrays: a type and a shared, row-major buffer, on the host or on a [`Device`].
//!
//! `ndarray` and vectors come in, the same go out, without a copy where possible. An array is immutable while it is
//! shared. The owner of the only handle can donate its buffer to be overwritten. Whoever reads an array need not know
//! where it is: the first read of one on a device copies it to the host, which can fail.

mod buffer;
mod device;
#[cfg_attr(feature = "fence", path = "fence.rs")]
mod guard;
mod limit;
#[cfg(all(test, unix, any(debug_assertions, feature = "fence")))]
mod touch;

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{DType, TensorType};
use buffer::{Remote, normalise_bools};

pub use buffer::{Buffer, Shared, allocations, check_available, copied, live_bytes};
pub use device::{Device, DeviceBuffer, any_elsewhere};

/// A Rust type of elements: `f32`, `f64`, [`half::bf16`], [`half::f16`], integers of 8, 16, 32 or 64 bits, or `bool`.
/// The trait is sealed, because memory is read as `T`.
///
/// ```compile_fail,E0277
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Half(u16);
/// impl fulgurite_jit::Element for Half {
///     const DTYPE: fulgurite_jit::DType = fulgurite_jit::DType::F32;
/// }
/// ```
pub trait Element: sealed::Sealed + Copy + Send + Sync + fmt::Debug + PartialEq + 'static {
    /// Its element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty: $d:ident),*) => { $(
        impl sealed::Sealed for $t {}
        impl Element for $t { const DTYPE: DType = DType::$d; }
        const _: () = assert!(size_of::<$t>() == DType::$d.info().bytes);
    )* };
}
elements!(
    f32: F32, f64: F64, half::bf16: BF16, half::f16: F16, i8: I8, u8: U8, i16: I16, u16: U16, i32: I32, u32: U32, i64: I64, u64: U64,
    bool: Bool
);

mod sealed {
    /// Seals [`Element`](super::Element).
    pub trait Sealed {}
}

/// The data of a concrete tensor. Two pointers in size, since every call of a step creates one per leaf.
#[derive(Clone)]
pub struct Array {
    ty: Arc<TensorType>,
    buffer: Shared,
}

impl Array {
    /// An array over a buffer.
    ///
    /// # Safety
    /// The type must [pass the size check](TensorType::check_size), and the buffer must fit it in size and alignment.
    /// For `bool`, every byte must be 0 or 1 before it is read.
    ///
    /// ```compile_fail,E0133
    /// use fulgurite_jit::array::{Buffer, Shared};
    /// use fulgurite_jit::{Array, DType, TensorType};
    ///
    /// let mask = Array::new(TensorType::new(DType::Bool, &[1]), Shared::new(Buffer::from_vec(vec![7u32])));
    /// ```
    #[inline]
    pub unsafe fn new(ty: impl Into<Arc<TensorType>>, buffer: Shared) -> Self {
        let ty = ty.into();
        assert!(buffer.len() >= ty.bytes(), "a buffer of {} bytes is too small for {ty}", buffer.len());
        Array { ty, buffer }
    }

    /// An array whose elements are the first bytes of `buffer`.
    ///
    /// # Errors
    /// If the type does not pass the size check, or does not fit the buffer; if the device is the host.
    pub fn on_device(ty: impl Into<Arc<TensorType>>, buffer: Box<dyn DeviceBuffer>) -> Result<Self> {
        let ty = ty.into();
        ty.check_size().map_err(|why| Error::new(format!("array: {why}")))?;
        let (bytes, device) = (buffer.bytes(), buffer.device());
        if device == Device::Cpu {
            return Err(Error::new(format!("array: the memory of {ty} is on {device}, where arrays have buffers")));
        }
        if bytes < ty.bytes() {
            return Err(Error::new(format!("array: a buffer of {bytes} bytes on {device} is too small for {ty}")));
        }
        device::note_elsewhere();
        let buffer = Shared::new(Buffer::remote(Remote::new(ty.clone(), device, buffer)));
        Ok(Array { ty, buffer })
    }

    /// An array of `shape` that takes over `data`, in row-major order.
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Self> {
        let ty = TensorType::new(T::DTYPE, shape);
        ty.check_size().map_err(|why| Error::new(format!("array: {why}")))?;
        if ty.elements() != data.len() {
            return Err(Error::new(format!("array: {} elements do not fill {ty}", data.len())));
        }
        // SAFETY: the type has been checked, and `data` holds its elements.
        Ok(unsafe { Array::new(ty, Shared::new(Buffer::from_vec(data))) })
    }

    /// Takes over the memory of a row-major array; copies any other layout into row-major order.
    ///
    /// # Errors
    /// If the type does not pass the size check, which an extent of 0 makes possible; if memory for the copy is not
    /// available.
    pub fn from_ndarray<T: Element, D: ndarray::Dimension>(a: ndarray::Array<T, D>) -> Result<Self> {
        let ty = TensorType::new(T::DTYPE, a.shape());
        let a = if a.is_standard_layout() {
            a
        } else {
            check_available(ty.bytes(), || format!("a copy of {ty}")).map_err(|e| e.context("array"))?;
            a.as_standard_layout().into_owned()
        };
        let (data, offset) = a.into_raw_vec_and_offset();
        let data = match offset {
            Some(0) | None if data.len() == ty.elements() => data,
            offset => copied(&data[offset.unwrap_or(0)..][..ty.elements()], || format!("a copy of {ty}"))?,
        };
        Array::from_vec(&ty.shape, data)
    }

    /// A scalar.
    pub fn scalar<T: Element>(value: T) -> Self {
        // SAFETY: the buffer holds one element of the type.
        unsafe { Array::new(TensorType::scalar(T::DTYPE), Shared::new(Buffer::from_vec(vec![value]))) }
    }

    /// An array of zeros (of `false`).
    ///
    /// # Errors
    /// If the type does not pass the size check, or the memory is not available.
    pub fn zeros(ty: &TensorType) -> Result<Self> {
        ty.check_size().map_err(|why| Error::new(format!("array: {why}")))?;
        let buffer = Buffer::zeroed(ty.bytes(), || ty.to_string()).map_err(|e| e.context("array"))?;
        // SAFETY: the type has been checked, an allocation is aligned for every element, and zero is `false`.
        Ok(unsafe { Array::new(ty.clone(), Shared::new(buffer)) })
    }

    /// Reinterprets the elements as another shape, without a copy.
    ///
    /// # Panics
    /// If the element types or the numbers of elements differ, or the type does not pass the size check.
    pub fn reshaped(&self, ty: impl Into<Arc<TensorType>>) -> Self {
        let ty = ty.into();
        assert!(ty.check_size().is_ok(), "{ty}");
        assert!(ty.dtype == self.ty.dtype && ty.elements() == self.ty.elements(), "{} as {ty}", self.ty);
        Array { ty, buffer: self.buffer.clone() }
    }

    /// Its type.
    #[inline]
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The device that it is on.
    #[inline]
    pub fn device(&self) -> Device {
        self.buffer.device()
    }

    /// The array on the host: itself, if it is there, or the copy that a read makes and keeps. JAX: `jax.device_get`.
    ///
    /// # Errors
    /// As [`Array::bytes`].
    pub fn to_host(&self) -> Result<Array> {
        Ok(Array { ty: self.ty.clone(), buffer: self.host()?.clone() })
    }

    /// Its memory on the host, which holds the elements of its type.
    fn host(&self) -> Result<&Shared> {
        self.buffer.as_remote().map_or(Ok(&self.buffer), Remote::host)
    }

    /// Its buffer.
    #[inline]
    pub fn buffer(&self) -> &Shared {
        &self.buffer
    }

    /// Whether this is the only handle to the memory, which is on the host, and an array of `ty` fits into it.
    pub fn is_only(&self, ty: &TensorType) -> bool {
        self.buffer.handles() == 1 && self.buffer.fits(ty)
    }

    /// Turns this into an array of `ty` in the same memory. `fill` writes the bytes in row-major order; it gets the old
    /// contents. Nonzero bools become 1. Returns false, without a change, unless [`Array::is_only`].
    pub fn refill(&mut self, ty: &TensorType, fill: impl FnOnce(&mut [u8])) -> bool {
        let bytes = ty.bytes();
        let Some(buffer) = self.buffer.get_mut().filter(|buffer| buffer.fits(ty)) else { return false };
        // If `fill` panics, the array is left empty.
        let before = std::mem::replace(&mut self.ty, Arc::new(TensorType::new(DType::F32, &[0])));
        let written = &mut buffer.bytes_mut()[..bytes];
        fill(written);
        if ty.dtype == DType::Bool {
            normalise_bools(written);
        }
        self.ty = if *before == *ty { before } else { Arc::new(ty.clone()) };
        true
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// If `T` is not the element type; as [`Array::bytes`].
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        if T::DTYPE != self.ty.dtype {
            return Err(Error::new(format!("array: {} cannot be read as {}", self.ty, T::DTYPE)));
        }
        // SAFETY: every constructor checks its bools or requires valid ones. They are changed only by `refill` and
        // `Remote`, which normalise them, and by programs, which write 0 or 1.
        Ok(unsafe { self.host()?.as_slice(self.ty.elements()) })
    }

    /// The elements converted to f64; `true` is 1.
    ///
    /// # Errors
    /// As [`Array::bytes`].
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        Ok(self.to_bits()?.into_iter().map(|bits| self.ty.dtype.value(bits).to_f64()).collect())
    }

    /// The bits of each element, in the low end of a `u64`, in row-major order.
    ///
    /// # Errors
    /// As [`Array::bytes`].
    pub fn to_bits(&self) -> Result<Vec<u64>> {
        let bytes = self.bytes()?;
        Ok(match self.ty.dtype.size() {
            1 => bytes.iter().map(|&byte| byte.into()).collect(),
            2 => bytes.as_chunks().0.iter().map(|&word| u16::from_ne_bytes(word).into()).collect(),
            4 => bytes.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word).into()).collect(),
            8 => bytes.as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word)).collect(),
            _ => unreachable!("an element has 1, 2, 4 or 8 bytes"),
        })
    }

    /// The inverse of [`Array::to_bits`]. An element takes the low end of its bits.
    ///
    /// # Errors
    /// As [`Array::from_bytes`].
    pub fn from_bits(ty: &TensorType, bits: &[u64]) -> Result<Self> {
        let bytes: Vec<u8> = match ty.dtype.size() {
            1 => bits.iter().map(|&x| x as u8).collect(),
            2 => bits.iter().flat_map(|&x| (x as u16).to_ne_bytes()).collect(),
            4 => bits.iter().flat_map(|&x| (x as u32).to_ne_bytes()).collect(),
            8 => bits.iter().flat_map(|&x| x.to_ne_bytes()).collect(),
            _ => unreachable!("an element has 1, 2, 4 or 8 bytes"),
        };
        Array::from_bytes(ty, &bytes)
    }

    /// The bytes in row-major order, in the byte order of the machine. The first read of an array on a device copies it
    /// to the host, and keeps the copy.
    ///
    /// # Errors
    /// When memory for the copy is not available, or the device fails.
    pub fn bytes(&self) -> Result<&[u8]> {
        // SAFETY: every byte is a valid `u8`.
        Ok(unsafe { self.host()?.as_slice(self.ty.bytes()) })
    }

    /// An array of `ty` with a copy of `bytes`.
    pub fn from_bytes(ty: &TensorType, bytes: &[u8]) -> Result<Self> {
        ty.check_size().map_err(|why| Error::new(format!("array: {why}")))?;
        if bytes.len() != ty.bytes() {
            return Err(Error::new(format!("array: {} bytes do not fill {ty}", bytes.len())));
        }
        if ty.dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            return Err(Error::new(format!("array: a byte of {ty} is neither 0 nor 1")));
        }
        let mut buffer = Buffer::zeroed(bytes.len(), || ty.to_string()).map_err(|e| e.context("array"))?;
        buffer.bytes_mut().copy_from_slice(bytes);
        // SAFETY: the type and the bools have been checked; an allocation is aligned for every element.
        Ok(unsafe { Array::new(ty.clone(), Shared::new(buffer)) })
    }

    /// A view as `ndarray`.
    pub fn view<T: Element>(&self) -> Result<ndarray::ArrayViewD<'_, T>> {
        let shape = ndarray::IxDyn(&self.ty.shape);
        ndarray::ArrayViewD::from_shape(shape, self.as_slice()?).map_err(|e| Error::new(format!("array: {e}")))
    }

    /// Converts to an owned `ndarray`. Moves the memory if this is the only handle to a buffer that came from `ndarray`
    /// or a `Vec`; copies otherwise.
    pub fn into_ndarray<T: Element>(self) -> Result<ndarray::ArrayD<T>> {
        let elements = self.as_slice::<T>()?.len();
        let host = self.to_host()?;
        // The copy of an array on a device may now have one handle.
        drop(self);
        let Array { ty, buffer } = host;
        let data = match buffer.into_buffer() {
            // SAFETY: `T` is the element type, as `as_slice` has checked above.
            Ok(buffer) => unsafe { buffer.into_vec::<T>(elements, || format!("a copy of {ty}")) },
            // SAFETY: as above.
            Err(shared) => copied(unsafe { shared.as_slice::<T>(elements) }, || format!("a copy of {ty}")),
        }?;
        ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(&ty.shape), data).map_err(|e| Error::new(format!("array: {e}")))
    }
}

impl PartialEq for Array {
    /// Compares types and bytes, so NaN equals itself. An array that cannot be read from its device equals itself only.
    fn eq(&self, other: &Self) -> bool {
        let are_equal = || matches!((self.bytes(), other.bytes()), (Ok(x), Ok(y)) if x == y);
        self.ty == other.ty && (self.buffer.is_same(&other.buffer) || are_equal())
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn show<T: Element + fmt::Display>(a: &Array, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match a.view::<T>() {
                Ok(v) => write!(f, "{} {v}", a.ty()),
                Err(e) => write!(f, "{e}"),
            }
        }
        match self.ty.dtype {
            DType::F32 => show::<f32>(self, f),
            DType::F64 => show::<f64>(self, f),
            DType::BF16 => show::<half::bf16>(self, f),
            DType::F16 => show::<half::f16>(self, f),
            DType::I8 => show::<i8>(self, f),
            DType::U8 => show::<u8>(self, f),
            DType::I16 => show::<i16>(self, f),
            DType::U16 => show::<u16>(self, f),
            DType::I32 => show::<i32>(self, f),
            DType::U32 => show::<u32>(self, f),
            DType::I64 => show::<i64>(self, f),
            DType::U64 => show::<u64>(self, f),
            DType::Bool => show::<bool>(self, f),
        }
    }
}
