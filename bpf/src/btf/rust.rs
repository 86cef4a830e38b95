//! BTF of Rust's types: one macro defines a `#[repr(C)]` struct and says what it is.

use super::{BtfBuilder, Int, Kind};

/// A type of Rust that has a type of BTF.
pub trait BtfType: 'static {
    /// Adds it, and what it needs; its id.
    fn add_to(builder: &mut BtfBuilder) -> u32;
}

macro_rules! integers {
    ($($rust:ty, $name:literal, $encoding:expr;)*) => {
        $(impl BtfType for $rust {
            fn add_to(builder: &mut BtfBuilder) -> u32 {
                builder.int($name, size_of::<$rust>() as u32, $encoding)
            }
        })*
    };
}

integers! {
    u8, "unsigned char", 0;
    u16, "unsigned short", 0;
    u32, "unsigned int", 0;
    u64, "unsigned long long", 0;
    i8, "char", Int::SIGNED;
    i16, "short", Int::SIGNED;
    i32, "int", Int::SIGNED;
    i64, "long long", Int::SIGNED;
    bool, "_Bool", Int::BOOL;
}

impl<T: BtfType, const N: usize> BtfType for [T; N] {
    fn add_to(builder: &mut BtfBuilder) -> u32 {
        let element = T::add_to(builder);
        builder.array(element, N as u32)
    }
}

impl<T: BtfType> BtfType for *mut T {
    fn add_to(builder: &mut BtfBuilder) -> u32 {
        let to = T::add_to(builder);
        builder.add("", Kind::Pointer(to))
    }
}

impl<T: BtfType> BtfType for *const T {
    fn add_to(builder: &mut BtfBuilder) -> u32 {
        let to = T::add_to(builder);
        let to = builder.add("", Kind::Const(to));
        builder.add("", Kind::Pointer(to))
    }
}

/// `void`, behind pointers.
impl BtfType for () {
    fn add_to(_builder: &mut BtfBuilder) -> u32 {
        0
    }
}

/// Defines `#[repr(C)]` structs together with their BTF: names, offsets and sizes are the
/// compiler's. A field's name may be given as text where it cannot be one in Rust.
///
/// ```
/// weir_bpf::btf_struct! {
///     /// What all sockets have.
///     #[derive(Clone, Copy)]
///     pub struct SockCommon as "sock_common" {
///         /// `AF_INET` or `AF_INET6`.
///         pub skc_family: u16,
///         /// Its number.
///         pub kind as "type": u16,
///     }
/// }
/// let mut builder = weir_bpf::btf::BtfBuilder::new();
/// let id = <SockCommon as weir_bpf::btf::BtfType>::add_to(&mut builder);
/// assert_eq!(builder.finish().member(id, "type").unwrap().bit_offset, 16);
/// ```
#[macro_export]
macro_rules! btf_struct {
    ($(
        $(#[$attribute:meta])*
        $seen:vis struct $rust:ident as $name:literal {
            $($(#[$of_field:meta])* $field_seen:vis $field:ident $(as $field_name:literal)?
                : $type:ty),* $(,)?
        }
    )*) => {$(
        $(#[$attribute])*
        #[repr(C)]
        $seen struct $rust { $($(#[$of_field])* $field_seen $field: $type),* }

        impl $crate::btf::BtfType for $rust {
            fn add_to(builder: &mut $crate::btf::BtfBuilder) -> u32 {
                builder.once::<$rust>($name, |builder| {
                    let members = vec![$({
                        let id = <$type as $crate::btf::BtfType>::add_to(builder);
                        let name = $crate::btf_struct!(@name $field $(, $field_name)?);
                        builder.member(name, id, ::core::mem::offset_of!($rust, $field))
                    }),*];
                    $crate::btf::Composite { size: ::core::mem::size_of::<$rust>() as u32, members }
                })
            }
        }
    )*};
    (@name $field:ident) => { stringify!($field).trim_start_matches("r#") };
    (@name $field:ident, $name:literal) => { $name };
}
