//! Write prompt packs for lmstrix-host.
//!
//! A pack is a WebAssembly component that offers prompts and processors. With this crate a
//! prompt is a function from a [`Request`] to a [`Resolved`], and a processor is a type that
//! implements [`Processor`]. A [`Catalog`] lists both, and [`export!`] makes them the exports
//! of the component:
//!
//! ```
//! use lmstrix_pack::{Catalog, Error, ParamInfo, Processor, ProcessorInfo, PromptInfo, Pushed, Request, Resolved};
//!
//! fn pack() -> Catalog {
//!     Catalog::new("Greetings")
//!         .prompt(
//!             PromptInfo::new("greet", "Greets a person")
//!                 .param(ParamInfo::required("name", "the person to greet")),
//!             greet,
//!         )
//!         .processor(ProcessorInfo::new("upper", "Converts to upper case"), |_| Ok(Upper))
//! }
//!
//! fn greet(request: &Request) -> Result<Resolved, Error> {
//!     Ok(Resolved::user(format!("Greet {}.", request.param("name")?)))
//! }
//!
//! struct Upper;
//!
//! impl Processor for Upper {
//!     fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
//!         Ok(chunk.to_uppercase().into())
//!     }
//! }
//!
//! lmstrix_pack::export!(pack());
//! ```
//!
//! The crate of a pack has `crate-type = ["cdylib"]` and is built for the target
//! `wasm32-wasip2`. All functions also run natively, so that `cargo test` tests a pack;
//! [`testing`] runs a processor.
//!
//! The host reports missing parameters and options and sets the declared defaults before it
//! calls a pack. The types are those of the contract, `wit/prompts.wit`, which documents them.

mod catalog;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod component;
mod constructors;
mod files;
mod line_buffer;
mod pack;
mod scan;
mod suggest;
pub mod testing;

pub use bindings::exports::lmstrix::prompts::catalog::{
    Contents, ParamInfo, ProcessorInfo, PromptInfo,
};
pub use bindings::exports::lmstrix::prompts::post_processor::{Context, Outcome, Pushed, Stop};
pub use bindings::exports::lmstrix::prompts::resolver::{Input, Request, Resolved};
pub use bindings::lmstrix::prompts::types::{
    Entry, Error, File, FileError, Message, Model, ProcessorRef, Role, Setting,
};
pub use catalog::Catalog;
pub use line_buffer::LineBuffer;
pub use pack::{Pack, Processor};
pub use scan::{ScanResult, find_first};
pub use suggest::similar_names;

#[doc(hidden)]
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    reason = "generated; wit/prompts.wit documents it"
)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "pack",
        additional_derives: [PartialEq],
        additional_type_attributes: {
            "lmstrix:prompts/types@0.1.0/file-error": [#[derive(Default)]],
            "lmstrix:prompts/types@0.1.0/model": [#[derive(Default)]],
            "lmstrix:prompts/catalog@0.1.0/contents": [#[derive(Default)]],
            "lmstrix:prompts/resolver@0.1.0/request": [#[derive(Default)]],
            "lmstrix:prompts/post-processor@0.1.0/context": [#[derive(Default)]],
            "lmstrix:prompts/post-processor@0.1.0/outcome": [#[derive(Default)]],
            "lmstrix:prompts/post-processor@0.1.0/pushed": [#[derive(Default)]],
        },
        pub_export_macro: true,
        export_macro_name: "__export_bindings",
        default_bindings_module: "lmstrix_pack::bindings",
    });
}

/// Makes a value that implements [`Pack`], such as a [`Catalog`], the exports of the
/// component. The expression is evaluated for each call. Does nothing in a native build.
#[macro_export]
macro_rules! export {
    ($pack:expr) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated")]
        const _: () = {
            struct Component;

            impl $crate::component::Exported for Component {
                fn pack() -> impl $crate::Pack {
                    $pack
                }
            }

    $crate::bindings::__export_bindings!(Component with_types_in $crate::bindings);
        };
    };
}
