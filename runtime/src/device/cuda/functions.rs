//! The functions of CUDA's driver, as cudarc declares them.
//!
//! Comes in: the library, which cudarc opens. Goes out: [`Functions`], and `call!` to call them, with a number for the
//! result. What the numbers mean is said in `driver_api`.
//!
//! cudarc's own functions are not called: they panic where the library lacks a symbol, and their result is a Rust
//! `enum`, which is undefined behaviour with an error that it does not list. The types of their parameters are taken
//! from them, by the compiler, and the symbols are looked up in the library that they use.

use std::ffi::{c_char, c_uint};
use std::mem::transmute;

use cudarc::driver::sys::{self, CUresult};

/// `CUresult`, as the number that the driver gives: newer drivers have errors that cudarc does not list.
pub(super) type Code = c_uint;

/// A function in the library, before it has its type.
pub(super) type Symbol = unsafe extern "C" fn();

/// Opens the library. The result looks up functions in it; there is none if the library cannot be opened.
pub(super) fn open() -> Option<impl Fn(&str) -> Option<Symbol>> {
    // SAFETY: what is called so is CUDA's driver, whose initialisers may run at any time.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    // SAFETY: as above. It panics only if the library cannot be opened.
    let library = unsafe { sys::culib() };
    Some(|name: &str| {
        // SAFETY: an address is read, which may be null. It is called as what `typed` makes of it.
        unsafe { library.get::<Option<Symbol>>(name) }.ok().and_then(|symbol| *symbol)
    })
}

/// A type of functions that cudarc declares.
pub(super) trait Declaration {
    /// The type of such a function in the library, with a number for the result.
    type Function;

    /// Gives a function its type.
    ///
    /// # Safety
    /// The symbol is that of a function that is declared so.
    unsafe fn typed(symbol: Symbol) -> Self::Function;
}

/// Implements [`Declaration`] for functions of so many parameters.
macro_rules! declarations {
    ($(($($param:ident)*))*) => {$(
        impl<$($param),*> Declaration for unsafe fn($($param),*) -> CUresult {
            type Function = unsafe extern "C" fn($($param),*) -> Code;

            unsafe fn typed(symbol: Symbol) -> Self::Function {
                // SAFETY: the caller's promise, for the parameters. The `enum` is passed as the number that it is.
                unsafe { transmute::<Symbol, Self::Function>(symbol) }
            }
        }
    )*};
}

declarations! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F G H) (A B C D E F G H I J) (A B C D E F G H I J K) }

/// A function of the library, with the parameters that cudarc's function of the same name has.
///
/// # Safety
/// The symbol is that of this function.
pub(super) unsafe fn typed<D: Declaration>(_declared: D, symbol: Symbol) -> D::Function {
    // SAFETY: the caller's promise.
    unsafe { D::typed(symbol) }
}

/// A function that tells of an error, which is a parameter: it may be one that cudarc does not list.
///
/// # Safety
/// As [`typed`].
pub(super) unsafe fn error_text(
    _declared: unsafe fn(CUresult, *mut *const c_char) -> CUresult,
    symbol: Symbol,
) -> unsafe extern "C" fn(Code, *mut *const c_char) -> Code {
    // SAFETY: the caller's promise, for the parameters. The `enum`s are passed as the numbers that they are.
    unsafe { transmute::<Symbol, unsafe extern "C" fn(Code, *mut *const c_char) -> Code>(symbol) }
}

/// Calls a function of [`Functions`]; it is as unsafe as the function.
macro_rules! call {
    ($functions:expr, $name:ident($($arg:expr),*)) => {{
        let declared: unsafe fn($($crate::device::cuda::functions::any!($arg)),*) -> _ = cudarc::driver::sys::$name;
        $crate::device::cuda::functions::typed(declared, $functions.$name)($($arg),*)
    }};
}

/// The type of a parameter, which the compiler knows.
macro_rules! any {
    ($arg:expr) => {
        _
    };
}

pub(super) use {any, call};

/// Declares the functions that are looked up in the library.
macro_rules! functions {
    ($($name:ident)*) => {
        /// The functions of the driver, by their names in CUDA.
        #[allow(non_snake_case)]
        pub(super) struct Functions {
            $(pub(super) $name: Symbol,)*
        }

        impl Functions {
            /// Looks them up, or tells the name of one that there is not.
            pub(super) fn find(look: impl Fn(&str) -> Option<Symbol>) -> Result<Self, &'static str> {
                Ok(Functions { $($name: look(stringify!($name)).ok_or(stringify!($name))?,)* })
            }
        }
    };
}

functions! {
    cuInit
    cuGetErrorName
    cuGetErrorString
    cuDeviceGetCount
    cuDeviceGet
    cuDeviceGetName
    cuDeviceGetAttribute
    cuDeviceTotalMem_v2
    cuDevicePrimaryCtxRetain
    cuDevicePrimaryCtxRelease_v2
    cuCtxSetCurrent
    cuStreamCreate
    cuStreamDestroy_v2
    cuStreamSynchronize
    cuStreamWaitEvent
    cuMemAlloc_v2
    cuMemFree_v2
    cuMemAllocAsync
    cuMemFreeAsync
    cuMemcpyHtoDAsync_v2
    cuMemcpyDtoHAsync_v2
    cuMemcpyDtoDAsync_v2
    cuMemHostAlloc
    cuMemFreeHost
    cuEventCreate
    cuEventRecord
    cuEventQuery
    cuEventSynchronize
    cuEventElapsedTime
    cuEventDestroy_v2
    cuLinkCreate_v2
    cuLinkAddData_v2
    cuLinkComplete
    cuLinkDestroy
    cuModuleLoadData
    cuModuleGetFunction
    cuModuleUnload
    cuOccupancyMaxActiveBlocksPerMultiprocessor
    cuLaunchKernel
    cuLaunchCooperativeKernel
    cuGraphCreate
    cuGraphDestroy
    cuGraphAddKernelNode
    cuGraphKernelNodeSetAttribute
    cuGraphInstantiateWithFlags
    cuGraphExecKernelNodeSetParams
    cuGraphLaunch
    cuGraphExecDestroy
}
